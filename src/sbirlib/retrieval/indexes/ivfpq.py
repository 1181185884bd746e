"""IVF-PQ index: inverted lists with product quantization (Jegou et al. 2011), by FAISS."""

from __future__ import annotations

import math
from typing import Any

import faiss

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.approximate import Approximate, default_nlist, selector
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.shards import FloatArray


class IvfPq(Approximate):
    """Small and fast: `M` bytes a photo in memory; its vector stays on disk and is read only for the shortlist.

    The options are FAISS's own: `nlist` is the number of inverted lists (by default about 4 sqrt(n) for the n photos at training),
    `nprobe` the number of lists a query visits, `M` the number of subquantizers, of 8 bits each.
    """

    kind = "ivfpq"

    def __init__(
        self,
        *,
        M: int = 64,  # noqa: N803
        nlist: int | None = None,
        nprobe: int = 16,
        rerank: int = 10,
        exhaustive: int = 10_000,
    ) -> None:
        super().__init__(rerank=rerank, exhaustive=exhaustive)
        if exhaustive < max(256, nlist or 0):
            raise InputError(
                f"training needs {max(256, nlist or 0)} photos for 8-bit codes and nlist={nlist}, got exhaustive={exhaustive}: raise it"
            )
        if M < 1 or nprobe < 1 or (nlist is not None and nlist < 1):
            raise InputError(f"M, nlist and nprobe are at least 1, got {M}, {nlist} and {nprobe}")
        self.M, self.nlist, self.nprobe = M, nlist, nprobe

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("M", "nlist", "nprobe", "rerank", "exhaustive")}

    def train(self, rows: FloatArray) -> Any:
        """Empty inverted lists and product quantizer, trained on rows [N, V] after a random rotation."""
        dim = rows.shape[1]
        padded = math.ceil(dim / self.M) * self.M  # subquantizers take equal numbers of dimensions
        nlist = self.nlist or default_nlist(len(rows))
        structure = faiss.index_factory(dim, f"RR{padded},IVF{nlist},PQ{self.M}", faiss.METRIC_INNER_PRODUCT)
        structure.train(rows)
        return structure

    def add_rows(self, rows: FloatArray) -> None:
        """Encode rows [N, V] and append them to their lists."""
        self.structure.add(rows)

    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        """Row ids [N, count] from the nearest `nprobe` lists."""
        parameters = faiss.SearchParametersPreTransform(index_params=faiss.SearchParametersIVF(nprobe=self.nprobe, **selector(allowed)))
        rows: IntArray = self.structure.search(queries, count, params=parameters)[1]
        return rows
