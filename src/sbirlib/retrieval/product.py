"""The matrix product that makes the scores, by whichever library does it clearly quicker on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

PROBE = 128, 8191  # rows and gallery: odd, as galleries are, so that rows begin within a cache line, which some libraries write slowly
CLEARLY = 1.1  # times: a nearer call might go otherwise the next time, and another library rounds otherwise


class Product:
    """Inner products of rows [n, V], at most `rows` of them, with a gallery [G, V], into one buffer that is used again and again."""

    def __init__(self, gallery: Tensor, rows: int) -> None:
        self._gallery = gallery
        self._buffer = gallery.new_empty(max(rows, 2), len(gallery))
        self._quicker = quicker() if gallery.device.type == "cpu" else "torch"

    def __call__(self, rows: Tensor) -> Tensor:
        """The products [n, G]; they hold until the next call."""
        out = self._buffer[: max(len(rows), 2)]
        given = rows.expand(2, -1) if len(rows) == 1 else rows  # one row alone may round equal photos differently, which would hide a tie
        LIBRARIES[self._quicker](given, self._gallery, out)
        return out[: len(rows)]


def _torch(rows: Tensor, gallery: Tensor, out: Tensor) -> None:
    torch.mm(rows, gallery.T, out=out)


def _numpy(rows: Tensor, gallery: Tensor, out: Tensor) -> None:
    np.matmul(rows.numpy(), gallery.numpy().T, out=out.numpy())


LIBRARIES: dict[str, Callable[[Tensor, Tensor, Tensor], None]] = {"torch": _torch, "numpy": _numpy}


@cache
def quicker() -> str:
    """`numpy` where its product is clearly quicker than torch's, as on AMD processors; else `torch`. Tried once, for a tenth of a second."""
    generator = torch.Generator().manual_seed(0)
    rows, gallery = (torch.randn(count, 512, generator=generator) for count in PROBE)
    out = torch.empty(*PROBE)
    # in turns, as others may work on this machine
    rounds = [[_seconds(multiply, rows, gallery, out) for multiply in LIBRARIES.values()] for _ in range(4)]
    seconds = dict(zip(LIBRARIES, map(min, zip(*rounds, strict=True)), strict=True))
    return "numpy" if seconds["torch"] > CLEARLY * seconds["numpy"] else "torch"


def _seconds(multiply: Callable[[Tensor, Tensor, Tensor], None], rows: Tensor, gallery: Tensor, out: Tensor) -> float:
    started = time.perf_counter()
    multiply(rows, gallery, out)
    return time.perf_counter() - started
