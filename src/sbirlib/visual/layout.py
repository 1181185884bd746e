"""Grid layout of pictures: rows of framed cells, with headings over columns, titles over rows, and labels beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from sbirlib.files import atomic_write

INK, FAINT, PALE = "#333333", "#8a8a8a", "#e4e4e4"
FRAME, GAP, MARGIN, LINE, LABEL = 4, 8, 16, 16, 120  # pixels; LINE is the height of a line of text, LABEL the width of a row's label
STEP = 2 * FRAME + GAP  # from a cell to the next, beyond its side


@dataclass(frozen=True)
class Cell:
    """A picture and the colour of its frame; None: a pale line."""

    picture: Image.Image
    frame: str | None = None


def layout(
    rows: Sequence[Sequence[Cell]],
    *,
    cell: int,
    headings: Sequence[str] = (),
    titles: Sequence[str] | None = None,
    labels: Sequence[str] = (),
    apart: int | None = None,
) -> Image.Image:
    """Draw rows of cells of `cell` pixels a side, whole pictures centred on white.

    `headings` stand over the columns, `titles` over the rows, and `labels` to the left of the rows; column `apart` and those after it
    stand apart from the columns before.

    >>> layout([[Cell(sketch), Cell(photo, frame="green")]], cell=96, headings=["sketch", "1"], apart=1).size
    (256, 160)
    """
    step, columns = cell + STEP, max(len(row) for row in rows)
    left, top = MARGIN + (LABEL if labels else 0), MARGIN + (LINE + GAP if headings else 0)
    title = LINE if titles else 0

    def corner(row: int, column: int) -> tuple[int, int]:
        return left + column * step + (GAP if apart is not None and column >= apart else 0), top + row * (step + title) + title

    width, height = corner(len(rows), columns)
    canvas = Image.new("RGB", (width + MARGIN - GAP, height - title + MARGIN - GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        draw.text((corner(0, column)[0] + FRAME + cell / 2, MARGIN), heading, fill=FAINT, font=font(), anchor="ma")
    for i, row in enumerate(rows):
        x, y = corner(i, 0)
        if titles:
            draw.text((x + FRAME, y - LINE), titles[i], fill=INK, font=font(), anchor="la")
        if labels:
            draw.text((MARGIN, y + FRAME + cell / 2), labels[i], fill=INK, font=font(), anchor="lm")
        for column, item in enumerate(row):
            _draw_cell(canvas, item, *corner(i, column), cell)
    return canvas


def _draw_cell(canvas: Image.Image, item: Cell, x: int, y: int, cell: int) -> None:
    draw, outer = ImageDraw.Draw(canvas), cell + 2 * FRAME
    small = ImageOps.contain(_on_white(item.picture), (cell, cell), Image.Resampling.LANCZOS)
    canvas.paste(small, (x + FRAME + (cell - small.width) // 2, y + FRAME + (cell - small.height) // 2))
    if item.frame is None:
        draw.rectangle((x + FRAME - 1, y + FRAME - 1, x + outer - FRAME, y + outer - FRAME), outline=PALE)
    else:
        draw.rounded_rectangle((x, y, x + outer - 1, y + outer - 1), radius=FRAME, outline=item.frame, width=FRAME)


def _on_white(picture: Image.Image) -> Image.Image:
    """The picture as RGB; a drawing in the alpha channel on white."""
    layered = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")


def font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=12)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images [n, 3, H, W] in [0, 1] as PIL images."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images.detach().cpu().clamp(0, 1).mul(255).round().byte()]


def save_picture(image: Image.Image, path: str | Path) -> None:
    """Write a PNG, atomically."""
    with atomic_write(path) as partial:
        image.save(partial, format="PNG")
