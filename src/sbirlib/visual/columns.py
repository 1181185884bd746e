"""Pictures side by side: a column for each thing that is compared, its name above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.visual.grid import FAINT, GAP, LINE, MARGIN, font


def columns(pictures: Mapping[str, Sequence[Image.Image]], *, cell: int = 96) -> Image.Image:
    """A column of pictures under each name, all of the same length; `cell` is the side of a picture in pixels.

    >>> columns({"sketch": [sketch], "synthesised": [made]}).size    # doctest: +SKIP
    (240, 160)
    """
    heights = {len(column) for column in pictures.values()}
    if len(heights) != 1 or not max(heights):
        raise InputError(f"columns of equal length were expected, at least one picture each, got {[len(c) for c in pictures.values()]}")
    side = cell + GAP
    canvas = Image.new("RGB", (2 * MARGIN + side * len(pictures), 2 * MARGIN + LINE + GAP + side * max(heights)), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (name, column) in enumerate(pictures.items()):
        x = MARGIN + number * side
        draw.text((x + cell / 2, MARGIN), name, fill=FAINT, font=font(), anchor="ma")
        for row, picture in enumerate(column):
            y = MARGIN + LINE + GAP + row * side
            canvas.paste(picture.convert("RGB").resize((cell, cell), Image.Resampling.LANCZOS), (x, y))
            draw.rectangle((x - 1, y - 1, x + cell, y + cell), outline="#e4e4e4")
    return canvas


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images [n, 3, H, W] in [0, 1] as PIL images."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images.detach().cpu().clamp(0, 1).mul(255).round().byte()]
