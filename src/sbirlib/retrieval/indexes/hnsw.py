"""A graph of near neighbours (Malkov & Yashunin 2020), by FAISS."""

from __future__ import annotations

from typing import Any

import faiss

from sbirlib.retrieval.indexes.approximate import Approximate, selector
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.shards import FloatArray


class Hnsw(Approximate):
    """Quick for one query at a time; holds every vector once more, in half precision, and `links` ids for each.

    `breadth` is how many photos are kept in view while searching: more is more exact and slower; never fewer than the shortlist.
    """

    kind = "hnsw"

    def __init__(self, *, links: int = 32, breadth: int = 128, effort: int = 200, rerank: int = 2, exhaustive: int = 10_000) -> None:
        super().__init__(rerank=rerank, exhaustive=exhaustive)
        self.links, self.breadth, self.effort = links, breadth, effort

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("links", "breadth", "effort", "rerank", "exhaustive")}

    def make(self, rows: FloatArray) -> Any:
        structure = faiss.IndexHNSWSQ(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, self.links, faiss.METRIC_INNER_PRODUCT)
        structure.hnsw.efConstruction = self.effort
        structure.train(rows)
        return structure

    def enter(self, rows: FloatArray) -> None:
        self.structure.add(rows)

    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        parameters = faiss.SearchParametersHNSW(efSearch=max(self.breadth, count), **selector(allowed))
        rows: IntArray = self.structure.search(queries, count, params=parameters)[1]
        return rows
