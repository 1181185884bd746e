"""Tiled matrix product of queries and gallery, into a reused buffer."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from sbirlib.threads import Job

LINE = 16  # numbers of a cache line
TILE = 1024  # photos
MIN_ROWS = 8  # rows that are multiplied at once: with fewer than four, MKL rounds the last photos' products differently, which hides ties


class Product:
    """Inner products of rows [N, V], n <= `rows`, with a gallery [G, V], in one buffer that every call reuses.

    Each row of the buffer begins on a cache line, which some libraries need to be fast: MKL on an AMD processor writes other rows at two
    thirds of the speed. On a CPU the gallery is split into tiles, which fit the cache and which threads can share.
    """

    def __init__(self, gallery: Tensor, rows: int) -> None:
        count = max(1, len(gallery) // TILE) if gallery.device.type == "cpu" else 1
        ends = [len(gallery) * i // count // LINE * LINE for i in range(count)] + [len(gallery)]
        self._tiles = [slice(*pair) for pair in pairwise(ends)]
        self._gallery = gallery
        self._buffer = gallery.new_empty(max(rows, MIN_ROWS), -(-len(gallery) // LINE) * LINE)[:, : len(gallery)]

    def __call__(self, rows: Tensor) -> tuple[Tensor, list[Job]]:
        """Return the output buffer [N, G], valid until the next call, and the jobs that fill it, in any order, on any thread."""
        padded = rows if len(rows) >= MIN_ROWS else rows[torch.arange(MIN_ROWS, device=rows.device) % len(rows)]
        out = self._buffer[: len(padded)]
        return out[: len(rows)], [partial(torch.mm, padded, self._gallery[tile].T, out=out[:, tile]) for tile in self._tiles]
