"""HNSW index: a hierarchical graph of near neighbours (Malkov & Yashunin 2020), by FAISS."""

from __future__ import annotations

from typing import Annotated, Any

import faiss
from annotated_types import Interval

from sbirlib.retrieval.indexes import graph
from sbirlib.retrieval.indexes.approximate import Approximate, Exhaustive, Rerank, selector
from sbirlib.retrieval.indexes.arrays import Arrays
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.shards import FloatArray


class Hnsw(Approximate):
    """Fast for single queries; holds a copy of every vector in half precision, and the graph. M, efSearch and efConstruction are FAISS's.

    Args:
        M: links a photo on each level of the graph
        efSearch: candidates kept while searching, at least the length of the shortlist; more are more exact and slower
        efConstruction: candidates kept while the graph is built
        rerank: length of the shortlist, in multiples of k
        exhaustive: photos from which the shortlist is used; a search over fewer is exhaustive and exact
    """

    kind = "hnsw"

    def __init__(
        self,
        *,
        M: Annotated[int, Interval(ge=2, le=512)] = 32,  # noqa: N803
        efSearch: Annotated[int, Interval(ge=1, le=65_536)] = 128,  # noqa: N803
        efConstruction: Annotated[int, Interval(ge=1, le=65_536)] = 200,  # noqa: N803
        rerank: Rerank = 2,
        exhaustive: Exhaustive = 10_000,
    ) -> None:
        super().__init__(rerank=rerank, exhaustive=exhaustive)
        self.M, self.efSearch, self.efConstruction = M, efSearch, efConstruction

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("M", "efSearch", "efConstruction", "rerank", "exhaustive")}

    def train(self, rows: FloatArray) -> Any:
        """An empty graph, whose half-precision quantizer is trained on rows [N, V]."""
        structure = graph.empty(rows.shape[1], self.M)
        structure.hnsw.efConstruction = self.efConstruction
        structure.train(rows)
        return structure

    def add_rows(self, rows: FloatArray) -> None:
        """Insert rows [N, V] into the graph."""
        self.structure.add(rows)

    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        """Row ids [N, count] from the graph, with efSearch at least `count`."""
        parameters = faiss.SearchParametersHNSW(efSearch=max(self.efSearch, count), **selector(allowed))
        rows: IntArray = self.structure.search(queries, count, params=parameters)[1]
        return rows

    def arrays(self) -> Arrays:
        """The graph: levels [N], neighbours [L], entry [2] and codes [N, 2 V]."""
        return graph.arrays_of(self.structure)

    def restored(self, arrays: Arrays) -> Any:
        """The structure from the arrays of `arrays`, [N, ...], checked."""
        structure = graph.from_arrays(arrays, rows=self.size, dim=self.dim, links=self.M)
        structure.hnsw.efConstruction = self.efConstruction
        return structure
