"""Flat index: exact exhaustive search."""

from __future__ import annotations

from sbirlib.retrieval.indexes.exhaustive import IntArray, Mask
from sbirlib.retrieval.indexes.local import Local
from sbirlib.retrieval.indexes.shards import FloatArray


class Flat(Local):
    """Exact search by FAISS; equal scores come in the order of adding.

    >>> index = Flat()
    >>> index.add(torch.eye(3), [{"path": f"{i}.jpg"} for i in range(3)])
    >>> index.search(torch.tensor([[0.0, 0.6, 0.8]]), k=2)
    (tensor([[0.8000, 0.6000]]), tensor([[2, 1]]))
    """

    kind = "flat"

    def insert(self, rows: FloatArray) -> None:
        """Nothing to do: the rows [N, V] are in their shard."""

    def shortlist(self, queries: FloatArray, k: int, allowed: Mask | None) -> IntArray | None:
        """None for all queries [N, V]: every search is exhaustive."""
        return None
