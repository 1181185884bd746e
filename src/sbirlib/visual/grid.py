"""A picture of what was found: a row a query, its sketch, then the best photos, framed green where right and red where wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from sbirlib.errors import InputError
from sbirlib.files import atomic_write

RIGHT, WRONG, INK, FAINT = "#2e9e4f", "#d64545", "#333333", "#8a8a8a"
FRAME, GAP, MARGIN, LINE = 4, 8, 16, 16  # pixels; LINE is a line of text


def retrieval_grid(
    queries: Sequence[Image.Image],
    results: Sequence[Sequence[Image.Image]],
    correct: Sequence[Sequence[bool | None]],
    *,
    titles: Sequence[str] | None = None,
    cell: int = 96,
) -> Image.Image:
    """Sketches with the photos found for each, best first; `correct` frames a photo green (True), red (False) or not at all (None).

    `titles` stand over the rows, such as the sketch's class; `cell` is the side of a picture in pixels.

    >>> grid = retrieval_grid([sketch], [photos], [[True, False, True]], titles=["bicycle"])
    >>> save_picture(grid, "found.png")
    """
    _check(queries, results, correct, titles)
    columns = max(len(row) for row in results)
    side, over = cell + 2 * FRAME + GAP, LINE if titles else 0
    width = 2 * MARGIN + GAP + side * (columns + 1)
    canvas = Image.new("RGB", (width, 2 * MARGIN + LINE + GAP + (side + over) * len(queries)), "white")
    draw = ImageDraw.Draw(canvas)
    first = MARGIN + side + GAP
    for label, x in [("sketch", MARGIN), *((str(rank + 1), first + rank * side) for rank in range(columns))]:
        draw.text((x + (side - GAP) / 2, MARGIN), label, fill=FAINT, font=font(), anchor="ma")
    for i, (query, photos, right) in enumerate(zip(queries, results, correct, strict=True)):
        y = MARGIN + LINE + GAP + i * (side + over)
        if titles:
            draw.text((MARGIN + FRAME, y), titles[i], fill=INK, font=font(), anchor="la")
        _place(canvas, query, MARGIN, y + over, cell, None)
        for rank, (photo, mark) in enumerate(zip(photos, right, strict=True)):
            _place(canvas, photo, first + rank * side, y + over, cell, mark)
    return canvas


def save_picture(image: Image.Image, path: str | Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic_write(path) as partial:
        image.save(partial, format="PNG")


def _place(canvas: Image.Image, picture: Image.Image, x: int, y: int, cell: int, mark: bool | None) -> None:
    """The whole picture, centred on white, inside its frame; a pale line stands in for a frame whose colour is unknown."""
    draw, outer = ImageDraw.Draw(canvas), cell + 2 * FRAME
    small = ImageOps.contain(_on_white(picture), (cell, cell), Image.Resampling.LANCZOS)
    canvas.paste(small, (x + FRAME + (cell - small.width) // 2, y + FRAME + (cell - small.height) // 2))
    if mark is None:
        draw.rectangle((x + FRAME - 1, y + FRAME - 1, x + outer - FRAME, y + outer - FRAME), outline="#e4e4e4")
    else:
        draw.rounded_rectangle((x, y, x + outer - 1, y + outer - 1), radius=FRAME, outline=RIGHT if mark else WRONG, width=FRAME)


def _on_white(picture: Image.Image) -> Image.Image:
    """RGB; a drawing in the alpha channel shows on white."""
    layered = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")


def font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=12)


def _check(
    queries: Sequence[Image.Image],
    results: Sequence[Sequence[Image.Image]],
    correct: Sequence[Sequence[bool | None]],
    titles: Sequence[str] | None,
) -> None:
    if not queries:
        raise InputError("there is no query to draw: give at least one sketch")
    lengths = {"queries": len(queries), "results": len(results), "correct": len(correct)} | ({"titles": len(titles)} if titles else {})
    if len(set(lengths.values())) != 1:
        raise InputError(f"a grid takes a row of results, of marks and a title for each query, got {lengths}")
    for i, (photos, right) in enumerate(zip(results, correct, strict=True)):
        if len(photos) != len(right):
            raise InputError(f"row {i} has {len(photos)} photos and {len(right)} marks; mark each True, False or None")
