"""The matrix product that makes the scores."""

from __future__ import annotations

import torch
from torch import Tensor

LINE = 16  # numbers of a cache line


class Product:
    """Inner products of rows [n, V], at most `rows` of them, with a gallery [G, V], into one buffer that is used again and again.

    Each row of the buffer begins on a cache line, which some libraries need to be quick: MKL on an AMD processor writes others at two
    thirds of the speed.
    """

    def __init__(self, gallery: Tensor, rows: int) -> None:
        self._gallery = gallery
        self._buffer = gallery.new_empty(max(rows, 2), -(-len(gallery) // LINE) * LINE)[:, : len(gallery)]

    def __call__(self, rows: Tensor) -> Tensor:
        """The products [n, G]; they hold until the next call."""
        out = self._buffer[: max(len(rows), 2)]
        given = rows.expand(2, -1) if len(rows) == 1 else rows  # one row alone may round equal photos differently, which would hide a tie
        torch.mm(given, self._gallery.T, out=out)
        return out[: len(rows)]
