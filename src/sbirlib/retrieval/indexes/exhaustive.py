"""The best rows of a matrix by inner product, exactly: FAISS compares all, and equals come in the order of rows."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from sbirlib.retrieval.indexes.shards import FloatArray

IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]
Found = tuple[FloatArray, IntArray]
GATHERED = 0.25  # share of rows below which those that are allowed are copied out, above which more are asked for


def best(vectors: FloatArray, queries: FloatArray, k: int) -> Found:
    """Scores and rows [n, min(k, G)] of the largest inner products of queries [n, V] with vectors [G, V]."""
    k = min(k, len(vectors))
    scores, rows = faiss.knn(queries, vectors, min(k + 1, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
    scores, rows = in_order(scores, rows)
    if k < len(vectors):
        for i in np.flatnonzero(scores[:, k - 1] == scores[:, k]):  # where FAISS may have cut through equals, the earliest of them
            every, row = in_order(*faiss.knn(queries[i : i + 1], vectors, len(vectors), metric=faiss.METRIC_INNER_PRODUCT))
            scores[i], rows[i] = every[0, : k + 1], row[0, : k + 1]
    return scores[:, :k], rows[:, :k]


def best_allowed(vectors: FloatArray, queries: FloatArray, k: int, allowed: Mask | None) -> Found:
    """The same among the rows that are allowed [G]."""
    if allowed is None or allowed.all():
        return best(vectors, queries, k)
    total, count = len(allowed), int(allowed.sum())
    k = min(k, count)
    if count < GATHERED * total:
        rows = np.flatnonzero(allowed)
        scores, found = best(vectors[rows], queries, k)
        return scores, rows[found]
    asked = k
    while True:
        asked = min(total, int(2 * asked * total / count))
        scores, rows = best(vectors, queries, asked)
        kept = allowed[rows]
        if asked == total or kept.sum(1).min() >= k:
            order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
            return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def in_order(scores: Any, rows: IntArray) -> tuple[Any, IntArray]:
    """Best score first, and among equals the lowest row."""
    order = np.lexsort((rows, -scores))
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
