"""ITQ index: inverted lists of binary codes by iterative quantization, searched by Hamming distance with FAISS."""

from __future__ import annotations

import math
from typing import Annotated, Any

import faiss
import numpy as np
import torch
from annotated_types import Interval
from numpy.typing import NDArray

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.approximate import Approximate, Exhaustive, Nlist, Rerank, check_nlist, default_nlist
from sbirlib.retrieval.indexes.arrays import Arrays, check, check_lists, fill_lists, lists_of, values
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.shards import FloatArray
from sbirlib.retrieval.itq import ITQ

Codes = NDArray[np.uint8]
BLOCK = 8192  # vectors that are rotated at once, in double precision


class Itq(Approximate):
    """The smallest: `bits` a photo in memory; its vector stays on disk and is read only for the shortlist.

    The codes and the inverted lists are trained on the first photos, without labels; nlist and nprobe are FAISS's own options.

    Args:
        bits: length of a code, a multiple of 8
        nlist: inverted lists; about 4 sqrt(n) for the n photos at training where none
        nprobe: inverted lists that a query visits
        rerank: length of the shortlist, in multiples of k
        exhaustive: photos from which the shortlist is used, and trained on; a search over fewer is exhaustive and exact
    """

    kind = "itq"

    def __init__(
        self,
        *,
        bits: Annotated[int, Interval(ge=8, le=65_536)] = 256,
        nlist: Nlist | None = None,
        nprobe: Nlist = 128,
        rerank: Rerank = 10,
        exhaustive: Exhaustive = 10_000,
    ) -> None:
        super().__init__(rerank=rerank, exhaustive=exhaustive)
        if bits % 8:
            raise InputError(f"a code is whole bytes, such as bits=64, got {bits}")
        check_nlist(nlist, exhaustive)
        self.bits, self.nlist, self.nprobe = bits, nlist, nprobe

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("bits", "nlist", "nprobe", "rerank", "exhaustive")}

    def insert(self, rows: FloatArray) -> None:
        """As `Approximate.insert`, for rows [N, V] with V >= bits."""
        if rows.shape[1] < self.bits:
            raise InputError(f"vectors of {rows.shape[1]} numbers make codes of as many bits at most, got bits={self.bits}")
        super().insert(rows)

    def train(self, rows: FloatArray) -> CodeLists:
        """Empty lists, with codes and lists trained on rows [N, V]."""
        itq = ITQ(bits=self.bits).fit(torch.from_numpy(rows))
        return CodeLists.trained(itq, rows, self.nlist or default_nlist(len(rows)))

    def add_rows(self, rows: FloatArray) -> None:
        """Encode rows [N, V] and append them to their lists."""
        self.structure.index.add(self.structure.codes(rows))

    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        """Row ids [N, count] by Hamming distance, from the nearest `nprobe` lists."""
        rows: IntArray = self.structure.nearest(queries, count, allowed, self.nprobe)
        return rows

    def arrays(self) -> Arrays:
        """Mean [V], rotation [V, bits], centroids [L, bits / 8], and the lists: sizes [L], ids [N] and codes [N, bits / 8]."""
        lists: CodeLists = self.structure
        fitted = {name: tensor.numpy() for name, tensor in lists.itq.tensors().items()}
        centroids = values(faiss.downcast_IndexBinary(lists.index.quantizer).xb).reshape(lists.index.nlist, -1)
        return {**fitted, "centroids": centroids, **lists_of(lists.index)}

    def restored(self, arrays: Arrays) -> CodeLists:
        """The structure from the arrays of `arrays`, [N, ...], checked."""
        nlist, length = len(arrays.get("sizes", ())), self.bits // 8
        check(
            arrays,
            {
                "mean": (np.float64, (self.dim,)),
                "rotation": (np.float64, (self.dim, self.bits)),
                "centroids": (np.uint8, (nlist, length)),
                "sizes": (np.int64, (nlist,)),
                "ids": (np.int64, (self.size,)),
                "codes": (np.uint8, (self.size, length)),
            },
        )
        check_lists(arrays, self.size)
        lists = CodeLists(
            ITQ.of({name: torch.from_numpy(arrays[name]) for name in ("mean", "rotation")}), empty_lists(self.bits, max(nlist, 1))
        )
        lists.index.quantizer.add(np.ascontiguousarray(arrays["centroids"]))
        fill_lists(lists.index, arrays)
        return lists


class CodeLists:
    """A fitted ITQ and a FAISS binary inverted-file index of its codes."""

    def __init__(self, itq: ITQ, index: Any) -> None:
        self.itq, self.index = itq, index

    @classmethod
    def trained(cls, itq: ITQ, rows: FloatArray, nlist: int) -> CodeLists:
        """Empty lists, trained on vectors [N, V]."""
        lists = cls(itq, empty_lists(itq.bits, nlist))
        lists.index.train(lists.codes(rows))
        return lists

    def codes(self, rows: FloatArray) -> Codes:
        """The packed codes [N, bits / 8] of vectors [N, V]."""
        return np.concatenate([self.itq.packed(torch.from_numpy(rows[i : i + BLOCK])).numpy() for i in range(0, len(rows), BLOCK)])

    def nearest(self, queries: FloatArray, count: int, allowed: Mask | None, nprobe: int) -> IntArray:
        """Row ids [N, count] of the codes nearest to queries [N, V] in `nprobe` lists, -1 where those hold fewer; `allowed` is [G]."""
        codes, total = self.codes(queries), self.index.ntotal
        self.index.nprobe = nprobe
        if allowed is None:
            nearest: IntArray = self.index.search(codes, count)[1]
            return nearest
        k = count
        while True:  # FAISS has no selector for binary codes, so search for more and drop the rows that are not allowed
            k = min(total, math.ceil(1.25 * k * total / allowed.sum()) + 1)
            rows = self.index.search(codes, k)[1]
            valid = (rows >= 0) & allowed[rows]
            if k == total or ((valid.sum(1) >= count) | (rows[:, -1] < 0)).all():
                order = np.argsort(~valid, axis=1, kind="stable")[:, :count]
                return np.take_along_axis(np.where(valid, rows, -1), order, 1)


def empty_lists(bits: int, nlist: int) -> Any:
    """Empty inverted lists of codes."""
    return faiss.index_binary_factory(bits, f"BIVF{nlist}")
