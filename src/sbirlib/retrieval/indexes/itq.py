"""Binary codes by iterative quantization, in lists of near codes, compared in Hamming distance by FAISS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.approximate import Approximate, number_of_lists
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.shards import FloatArray
from sbirlib.retrieval.itq import ITQ

Codes = NDArray[np.uint8]
ENCODED = 8192  # vectors are turned at once, in double precision


class Itq(Approximate):
    """The smallest: `bits` for a photo in memory, while its vector stays on the disk and is read for the shortlist only.

    The codes are fitted on the photos that come first, as no labels are needed, and their lists too: `lists` is how many there are
    (some 4 sqrt(G) when the first photos come, unless given), `probes` how many of them are looked into.
    """

    kind = "itq"
    suffix = "safetensors"

    def __init__(self, *, bits: int = 256, lists: int | None = None, probes: int = 128, rerank: int = 10, exhaustive: int = 10_000) -> None:
        super().__init__(rerank=rerank, exhaustive=exhaustive)
        if bits < 8 or bits % 8:
            raise InputError(f"a code is whole bytes, such as bits=64, got {bits}")
        if probes < 1 or (lists is not None and not 1 <= lists <= exhaustive):
            raise InputError(f"probes is at least 1, and lists too, at most exhaustive={exhaustive}; got {probes} and {lists}")
        self.bits, self.lists, self.probes = bits, lists, probes

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("bits", "lists", "probes", "rerank", "exhaustive")}

    def learn(self, rows: FloatArray) -> None:
        if rows.shape[1] < self.bits:
            raise InputError(f"vectors of {rows.shape[1]} numbers make codes of as many bits at most, got bits={self.bits}")
        super().learn(rows)

    def make(self, rows: FloatArray) -> Listed:
        itq = ITQ(bits=self.bits).fit(torch.from_numpy(rows))
        return Listed.of(itq, rows, self.lists or number_of_lists(len(rows)))

    def enter(self, rows: FloatArray) -> None:
        self.structure.lists.add(self.structure.codes(rows))

    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        rows: IntArray = self.structure.nearest(queries, count, allowed, self.probes)
        return rows

    def write_structure(self, path: Path) -> None:
        save_file(self.structure.tensors(), path)

    def read_structure(self, path: Path) -> Listed:
        tensors = load_file(path)
        return Listed(ITQ.of(tensors), faiss.deserialize_index_binary(tensors["lists"].numpy()))


class Listed:
    """Codes, and the lists that hold them."""

    def __init__(self, itq: ITQ, lists: Any) -> None:
        self.itq, self.lists = itq, lists

    @classmethod
    def of(cls, itq: ITQ, rows: FloatArray, lists: int) -> Listed:
        """No codes yet; the lists are learned from vectors [n, V]."""
        listed = cls(itq, faiss.index_binary_factory(itq.bits, f"BIVF{lists}"))
        listed.lists.train(listed.codes(rows))
        return listed

    def codes(self, rows: FloatArray) -> Codes:
        """The codes [n, bytes] of vectors [n, V]."""
        return np.concatenate([self.itq.packed(torch.from_numpy(rows[i : i + ENCODED])).numpy() for i in range(0, len(rows), ENCODED)])

    def nearest(self, queries: FloatArray, count: int, allowed: Mask | None, probes: int) -> IntArray:
        """Rows [n, count] of the codes nearest to the vectors [n, V] in so many lists, -1 where those hold fewer."""
        codes, total = self.codes(queries), self.lists.ntotal
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        if allowed is None:
            found: IntArray = self.lists.search(codes, count, params=parameters)[1]
            return found
        asked = count
        while True:  # FAISS narrows no search for codes, so more are asked for than are allowed
            asked = min(total, math.ceil(1.25 * asked * total / allowed.sum()) + 1)
            rows = self.lists.search(codes, asked, params=parameters)[1]
            kept = (rows >= 0) & allowed[rows]
            if asked == total or ((kept.sum(1) >= count) | (rows[:, -1] < 0)).all():
                order = np.argsort(~kept, axis=1, kind="stable")[:, :count]
                return np.take_along_axis(np.where(kept, rows, -1), order, 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What was learned and entered, to be written."""
        return {**self.itq.tensors(), "lists": torch.from_numpy(faiss.serialize_index_binary(self.lists))}
