"""The matrix product that makes the scores."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from sbirlib.threads import Job

LINE = 16  # numbers of a cache line
TILE = 1024  # photos
FEWEST = 8  # rows that are multiplied at once: of fewer than four MKL rounds the last photos' products otherwise, which would hide a tie


class Product:
    """Inner products of rows [n, V], at most `rows` of them, with a gallery [G, V], into one buffer that is used again and again.

    Each row of the buffer begins on a cache line, which some libraries need to be quick: MKL on an AMD processor writes others at two
    thirds of the speed. On a processor the gallery is taken in tiles, which stay in the cache, and which threads can share.
    """

    def __init__(self, gallery: Tensor, rows: int) -> None:
        count = max(1, len(gallery) // TILE) if gallery.device.type == "cpu" else 1
        ends = [len(gallery) * i // count // LINE * LINE for i in range(count)] + [len(gallery)]
        self._tiles = [slice(*pair) for pair in pairwise(ends)]
        self._gallery = gallery
        self._buffer = gallery.new_empty(max(rows, FEWEST), -(-len(gallery) // LINE) * LINE)[:, : len(gallery)]

    def __call__(self, rows: Tensor) -> tuple[Tensor, list[Job]]:
        """Where the products [n, G] will be until the next call, and what puts them there: in any order, by any thread."""
        given = rows if len(rows) >= FEWEST else rows[torch.arange(FEWEST, device=rows.device) % len(rows)]
        out = self._buffer[: len(given)]
        return out[: len(rows)], [partial(torch.mm, given, self._gallery[tile].T, out=out[:, tile]) for tile in self._tiles]
