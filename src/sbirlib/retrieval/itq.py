"""Binary codes by iterative quantization, ITQ (Gong et al. 2013)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sbirlib.errors import InputError

ROUNDS = 50


class ITQ:
    """Codes of `bits` signs of the principal components, after the rotation with the least quantization error.

    Fit it on training photos, never on the gallery. A code is +-1/sqrt(bits), so the inner product of two codes is 1 - 2h/bits of
    their Hamming distance h, and ranks as h does, ties included: evaluators and indexes take codes as they take vectors. (FAISS 1.15's
    own ITQMatrix is not used: its loss does not fall from round to round, and its result is no better than a random rotation.)

    >>> itq = ITQ(bits=8).fit(pipeline.encode_images(dataset.train.photos, progress=False))
    >>> itq.codes(photos.vectors).shape
    torch.Size([12, 8])
    """

    def __init__(self, *, bits: int = 64) -> None:
        if bits < 1:
            raise InputError(f"a code has at least one bit, got bits={bits}")
        self.bits = bits
        self._mean: Tensor | None = None
        self._rotation = torch.empty(0)

    def fit(self, vectors: Tensor) -> ITQ:
        """Fit to vectors [N, V] of training photos, n >= bits and V >= bits."""
        rows = _finite(vectors)
        count, dim = rows.shape
        if min(count, dim) < self.bits:
            raise InputError(
                f"codes of {self.bits} bits are fitted on as many vectors of as many numbers, got {count} of {dim}: take fewer bits"
            )
        mean = rows.mean(0)
        components = principal_components(rows - mean, self.bits)
        self._mean, self._rotation = mean, components @ rotation((rows - mean) @ components)
        return self

    def codes(self, vectors: Tensor) -> Tensor:
        """Codes of vectors, float32 on the CPU: [N, bits] of [N, V], and [Q, S, bits] of [Q, S, V]."""
        return torch.where(self._rotated(vectors) >= 0, 1.0, -1.0) / math.sqrt(self.bits)

    def packed(self, vectors: Tensor) -> Tensor:
        """Packed codes of vectors [N, V]: uint8 [N, bits / 8], the first bit lowest; `bits` is a multiple of 8."""
        if self.bits % 8:
            raise InputError(f"a code of {self.bits} bits is not whole bytes: take a multiple of 8")
        bits = (self._rotated(vectors) >= 0).numpy()
        return torch.from_numpy(np.packbits(bits, axis=1, bitorder="little"))

    def tensors(self) -> dict[str, Tensor]:
        """The fitted mean [V] and rotation [V, bits], for a file; `of` reads them."""
        return {"mean": self._fitted(), "rotation": self._rotation}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> ITQ:
        """From the `tensors` of a fitted ITQ: mean [V] and rotation [V, bits]."""
        itq = cls(bits=tensors["rotation"].shape[1])
        itq._mean, itq._rotation = tensors["mean"], tensors["rotation"]
        return itq

    def _rotated(self, vectors: Tensor) -> Tensor:
        mean = self._fitted()
        if vectors.shape[-1] != len(mean):
            raise InputError(f"these codes were fitted on vectors of {len(mean)} numbers, got {vectors.shape[-1]}")
        return (_finite(vectors) - mean) @ self._rotation

    def _fitted(self) -> Tensor:
        if self._mean is None:
            raise InputError("these codes were not fitted: call fit with the vectors of training photos first")
        return self._mean


def principal_components(rows: Tensor, count: int) -> Tensor:
    """The first principal components [V, count] of centred rows [N, V], largest variance first."""
    components: Tensor = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)[:, :count]
    return components


def rotation(components: Tensor, *, rounds: int = ROUNDS) -> Tensor:
    """The rotation R [c, c] that minimises |sgn(V R) - V R| for V [N, c], from a fixed start (Gong et al. 2013, section 3.2)."""
    matrix = start(components.shape[1])
    for _ in range(rounds):
        signs = torch.where(components @ matrix >= 0, 1.0, -1.0).to(components)
        left, _, right = torch.linalg.svd(signs.T @ components)
        matrix = (left @ right).T
    return matrix


def start(size: int) -> Tensor:
    """A random rotation R [C, C] with C = size, from a fixed seed."""
    normal = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix: Tensor = torch.linalg.qr(normal).Q
    return matrix


def _finite(vectors: Tensor) -> Tensor:
    if not vectors.isfinite().all():
        raise InputError("a vector holds NaN or infinity: check the encoder's weights and the images")
    return vectors.detach().cpu().double()
