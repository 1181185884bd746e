"""Retrieval grid: a row a query, its sketch and then its best photos, framed green where relevant and red where not."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from sbirlib.errors import InputError
from sbirlib.visual.layout import Cell, layout

RIGHT, WRONG = "#2e9e4f", "#d64545"
FRAMES = {True: RIGHT, False: WRONG, None: None}


def retrieval_grid(
    queries: Sequence[Image.Image],
    results: Sequence[Sequence[Image.Image]],
    correct: Sequence[Sequence[bool | None]],
    *,
    titles: Sequence[str] | None = None,
    cell: int = 96,
) -> Image.Image:
    """Draw sketches with their results, best first; `correct` frames a photo green (True), red (False) or not at all (None).

    `titles` stand over the rows, such as the sketch's class; `cell` is the side of a picture in pixels.

    >>> grid = retrieval_grid([sketch], [[photo, photo, photo]], [[True, False, True]], titles=["cat"])
    >>> grid.save("results.png")
    """
    _check(queries, results, correct, titles)
    rows = [
        [Cell(query), *(Cell(photo, FRAMES[mark]) for photo, mark in zip(photos, marks, strict=True))]
        for query, photos, marks in zip(queries, results, correct, strict=True)
    ]
    headings = ["sketch", *(str(rank) for rank in range(1, max(len(row) for row in rows)))]
    return layout(rows, cell=cell, headings=headings, titles=titles, apart=1)


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
    for i, (photos, marks) in enumerate(zip(results, correct, strict=True)):
        if len(photos) != len(marks):
            raise InputError(f"row {i} has {len(photos)} photos and {len(marks)} marks; mark each True, False or None")
