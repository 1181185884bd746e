"""Binary codes by iterative quantization (Gong et al. 2013)."""

from __future__ import annotations

import math

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
        if self._mean is None:
            raise InputError("these codes were not fitted: call fit with the vectors of training photos first")
        if vectors.shape[-1] != len(self._mean):
            raise InputError(f"these codes were fitted on vectors of {len(self._mean)} numbers, got {vectors.shape[-1]}")
        turned = (_finite(vectors) - self._mean) @ self._turn
        return torch.where(turned >= 0, 1.0, -1.0) / math.sqrt(self.bits)


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
