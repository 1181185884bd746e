"""Exact nearest rows of a matrix by inner product, by FAISS; equal scores in row order."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from sbirlib.retrieval.indexes.shards import FloatArray

IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]
Results = tuple[FloatArray, IntArray]  # scores and row ids
FEW, SELECTED = 256, 1024  # queries below which, and photos up to which, torch is faster than FAISS
COLUMNS = 8192  # vectors of one product, whose scores stay in the cache until they are selected from
GATHERED = 0.25  # share of allowed rows below which those are copied out, and above which more than k are searched for


def best(vectors: FloatArray, queries: FloatArray, k: int) -> Results:
    """Scores and rows [N, min(k, G)] of the largest inner products of queries [N, V] with vectors [G, V]."""
    k = min(k, len(vectors))
    scores, rows = in_order(*_largest(vectors, queries, min(k + 1, len(vectors))))
    if k < len(vectors):
        for i in np.flatnonzero(scores[:, k - 1] == scores[:, k]):  # FAISS may have cut a group of equal scores: take the lowest rows
            all_scores, row = in_order(*faiss.knn(queries[i : i + 1], vectors, len(vectors), metric=faiss.METRIC_INNER_PRODUCT))
            scores[i], rows[i] = all_scores[0, : k + 1], row[0, : k + 1]
    return scores[:, :k], rows[:, :k]


def _largest(vectors: FloatArray, queries: FloatArray, k: int) -> Results:
    """Scores and rows [N, k] of the k largest inner products of queries [N, V] with vectors [G, V], in any order.

    Which is faster depends on the number of queries: for many FAISS, which selects while it multiplies; for few torch, by two to five times, with the
    many vectors as the rows of the product. One query is asked twice, for a product of a matrix and a vector has one thread.
    """
    if not 0 < len(queries) < FEW or k > SELECTED:
        scores, rows = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, rows
    wanted, whole = torch.from_numpy(queries.repeat(2, 0) if len(queries) == 1 else queries), torch.from_numpy(np.asarray(vectors))
    values, indices = [], []
    for start in range(0, len(whole), COLUMNS):
        products = (whole[start : start + COLUMNS] @ wanted.T).T
        largest = products.topk(min(k, products.shape[1]), dim=1, sorted=False)
        values.append(largest.values)
        indices.append(largest.indices + start)
    scores, rows = torch.cat(values, 1)[: len(queries)], torch.cat(indices, 1)[: len(queries)]
    places = scores.topk(k, dim=1, sorted=False).indices
    return scores.gather(1, places).numpy(), rows.gather(1, places).numpy()


def best_allowed(vectors: FloatArray, queries: FloatArray, k: int, allowed: Mask | None) -> Results:
    """As `best`, among the rows that are allowed [G]."""
    if allowed is None or allowed.all():
        return best(vectors, queries, k)
    total, count = len(allowed), int(allowed.sum())
    k = min(k, count)
    if count < GATHERED * total:
        rows = np.flatnonzero(allowed)
        scores, positions = best(vectors[rows], queries, k)
        return scores, rows[positions]
    more = k
    while True:
        more = min(total, int(2 * more * total / count))
        scores, rows = best(vectors, queries, more)
        valid = allowed[rows]
        if more == total or valid.sum(1).min() >= k:
            order = np.argsort(~valid, axis=1, kind="stable")[:, :k]
            return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def in_order(scores: Any, rows: IntArray) -> tuple[Any, IntArray]:
    """Sort scores and rows [N, k] by score, best first, then by row."""
    order = np.lexsort((rows, -scores))
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
