"""Binary codes by iterative quantization (Gong et al. 2013)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sbirlib.errors import InputError

ROUNDS = 50


class ITQ:
    """`bits` signs of the vector's principal components, turned so that the signs lose least.

    Fitted on training photos, never on what is searched. A code is +-1/sqrt(bits), so the inner product of two codes is 1 - 2h/bits of
    their Hamming distance h, and ranks as h does, ties included: whatever takes vectors takes codes. (FAISS 1.15's own ITQMatrix is not
    used: its loss does not fall from round to round, and it ends where a random rotation does.)

    >>> itq = ITQ(bits=64).fit(pipeline.embed(dataset.train.photos))  # doctest: +SKIP
    >>> itq.codes(gallery.vectors).shape  # doctest: +SKIP
    torch.Size([1200, 64])
    """

    def __init__(self, *, bits: int = 64) -> None:
        if bits < 1:
            raise InputError(f"a code has at least one bit, got bits={bits}")
        self.bits = bits
        self._mean: Tensor | None = None
        self._turn = torch.empty(0)

    def fit(self, vectors: Tensor) -> ITQ:
        """Learn from vectors [n, V] of training photos, n >= bits and V >= bits."""
        rows = _finite(vectors)
        count, dim = rows.shape
        if min(count, dim) < self.bits:
            raise InputError(
                f"codes of {self.bits} bits are fitted on as many vectors of as many numbers, got {count} of {dim}: take fewer bits"
            )
        mean = rows.mean(0)
        components = principal_components(rows - mean, self.bits)
        self._mean, self._turn = mean, components @ rotation((rows - mean) @ components)
        return self

    def codes(self, vectors: Tensor) -> Tensor:
        """Vectors [..., V] as codes [..., bits], float32 on the CPU."""
        return torch.where(self._turned(vectors) >= 0, 1.0, -1.0) / math.sqrt(self.bits)

    def packed(self, vectors: Tensor) -> Tensor:
        """Vectors [n, V] as codes of eight bits a byte, uint8 [n, bits / 8], the first bit lowest; `bits` is a multiple of 8."""
        if self.bits % 8:
            raise InputError(f"a code of {self.bits} bits is not whole bytes: take a multiple of 8")
        bits = (self._turned(vectors) >= 0).numpy()
        return torch.from_numpy(np.packbits(bits, axis=1, bitorder="little"))

    def tensors(self) -> dict[str, Tensor]:
        """What was fitted, to be written; `of` reads it."""
        return {"mean": self._fitted(), "turn": self._turn}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> ITQ:
        itq = cls(bits=tensors["turn"].shape[1])
        itq._mean, itq._turn = tensors["mean"], tensors["turn"]
        return itq

    def _turned(self, vectors: Tensor) -> Tensor:
        mean = self._fitted()
        if vectors.shape[-1] != len(mean):
            raise InputError(f"these codes were fitted on vectors of {len(mean)} numbers, got {vectors.shape[-1]}")
        return (_finite(vectors) - mean) @ self._turn

    def _fitted(self) -> Tensor:
        if self._mean is None:
            raise InputError("these codes were not fitted: call fit with the vectors of training photos first")
        return self._mean


def principal_components(rows: Tensor, count: int) -> Tensor:
    """The directions [V, count] in which centred rows [n, V] vary most, widest first."""
    widest: Tensor = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)[:, :count]
    return widest


def rotation(components: Tensor, *, rounds: int = ROUNDS) -> Tensor:
    """R [c, c] that makes |sgn(V R) - V R| small for V [n, c], from a fixed start (Gong et al. 2013, section 3.2)."""
    turn = start(components.shape[1])
    for _ in range(rounds):
        signs = torch.where(components @ turn >= 0, 1.0, -1.0).to(components)
        left, _, right = torch.linalg.svd(signs.T @ components)
        turn = (left @ right).T
    return turn


def start(size: int) -> Tensor:
    """A random rotation, the same every time."""
    drawn = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turn: Tensor = torch.linalg.qr(drawn).Q
    return turn


def _finite(vectors: Tensor) -> Tensor:
    if not vectors.isfinite().all():
        raise InputError("a vector holds NaN or infinity: check the encoder's weights and the images")
    return vectors.detach().cpu().double()
