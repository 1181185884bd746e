"""Binary codes by iterative quantization, compared in Hamming distance by FAISS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.approximate import Approximate
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask, best_allowed, in_order
from sbirlib.retrieval.indexes.shards import FloatArray
from sbirlib.retrieval.itq import ITQ

Codes = NDArray[np.uint8]
ENCODED = 8192  # vectors are turned at once, in double precision


class Itq(Approximate):
    """The smallest: `bits` for a photo in memory, while its vector stays on the disk and is read for the shortlist only.

    The codes are fitted on the photos that come first, as no labels are needed. Rows with equal distance come in the order of adding.
    """

    kind = "itq"
    suffix = "safetensors"

    def __init__(self, *, bits: int = 256, rerank: int = 20, exhaustive: int = 10_000) -> None:
        super().__init__(rerank=rerank, exhaustive=exhaustive)
        if bits < 8 or bits % 8:
            raise InputError(f"a code is whole bytes, such as bits=64, got {bits}")
        self.bits = bits
        self.codes: Codes = np.empty((0, bits // 8), dtype=np.uint8)

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("bits", "rerank", "exhaustive")}

    def learn(self, rows: FloatArray) -> None:
        if rows.shape[1] < self.bits:
            raise InputError(f"vectors of {rows.shape[1]} numbers make codes of as many bits at most, got bits={self.bits}")
        super().learn(rows)

    def make(self, rows: FloatArray) -> ITQ:
        return ITQ(bits=self.bits).fit(torch.from_numpy(rows))

    def enter(self, rows: FloatArray) -> None:
        parts = [self.structure.packed(torch.from_numpy(rows[i : i + ENCODED])).numpy() for i in range(0, len(rows), ENCODED)]
        self.codes = np.concatenate([self.codes, *parts])

    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        asked = self.structure.packed(torch.from_numpy(queries)).numpy()
        rows: IntArray = best_allowed(self.codes, asked, count, allowed, nearest_codes)[1]
        return rows

    def write_structure(self, path: Path) -> None:
        save_file({**self.structure.tensors(), "codes": torch.from_numpy(self.codes)}, path)

    def read_structure(self, path: Path) -> ITQ:
        tensors = load_file(path)
        self.codes = tensors.pop("codes").numpy()
        return ITQ.of(tensors)


def nearest_codes(codes: Codes, queries: Codes, k: int) -> tuple[NDArray[np.int32], IntArray]:
    """Minus the Hamming distance, and rows, [n, min(k, G)] of the codes [G, bytes] nearest to each query [n, bytes]."""
    distances, rows = faiss.knn_hamming(queries, codes, min(k, len(codes)))
    return in_order(-distances, rows)
