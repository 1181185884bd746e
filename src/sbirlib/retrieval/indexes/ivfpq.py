"""Lists of near vectors, each as a short code (Jegou et al. 2011), by FAISS."""

from __future__ import annotations

import math
from typing import Any

import faiss

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.approximate import Approximate, number_of_lists, selector
from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.shards import FloatArray


class IvfPq(Approximate):
    """Small and quick: `bytes` for a photo in memory, while its vector stays on the disk and is read for the shortlist only.

    `lists` is how many lists there are (some 4 sqrt(G) when the first photos come, unless given), `probes` how many of them are looked into.
    """

    kind = "ivfpq"

    def __init__(self, *, bytes: int = 64, lists: int | None = None, probes: int = 16, rerank: int = 10, exhaustive: int = 10_000) -> None:
        super().__init__(rerank=rerank, exhaustive=exhaustive)
        if exhaustive < max(256, lists or 0):
            raise InputError(
                f"{max(256, lists or 0)} photos are needed to learn codes of bytes and {lists or 'the'} lists, got exhaustive={exhaustive}"
            )
        if bytes < 1 or probes < 1 or (lists is not None and lists < 1):
            raise InputError(f"bytes, lists and probes are at least 1, got {bytes}, {lists} and {probes}")
        self.bytes, self.lists, self.probes = bytes, lists, probes

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("bytes", "lists", "probes", "rerank", "exhaustive")}

    def make(self, rows: FloatArray) -> Any:
        dim = rows.shape[1]
        padded = math.ceil(dim / self.bytes) * self.bytes  # a code byte stands for as many numbers as the next
        lists = self.lists or number_of_lists(len(rows))
        structure = faiss.index_factory(dim, f"RR{padded},IVF{lists},PQ{self.bytes}", faiss.METRIC_INNER_PRODUCT)
        structure.train(rows)
        return structure

    def enter(self, rows: FloatArray) -> None:
        self.structure.add(rows)

    def candidates(self, queries: FloatArray, count: int, allowed: Mask | None) -> IntArray:
        parameters = faiss.SearchParametersPreTransform(index_params=faiss.SearchParametersIVF(nprobe=self.probes, **selector(allowed)))
        rows: IntArray = self.structure.search(queries, count, params=parameters)[1]
        return rows
