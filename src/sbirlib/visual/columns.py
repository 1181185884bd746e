"""Columns of pictures, side by side under their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from sbirlib.errors import InputError
from sbirlib.visual.layout import Cell, layout


def columns(pictures: Mapping[str, Sequence[Image.Image]], *, cell: int = 96) -> Image.Image:
    """Draw a column of pictures under each name, all of the same length; `cell` is the side of a picture in pixels.

    >>> columns({"sketch": [sketch], "synthesised": [photo]}).size
    (248, 160)
    """
    lengths = [len(column) for column in pictures.values()]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise InputError(f"columns of equal length were expected, at least one picture each, got {lengths}")
    rows = [[Cell(picture) for picture in row] for row in zip(*pictures.values(), strict=True)]
    return layout(rows, cell=cell, headings=list(pictures))
