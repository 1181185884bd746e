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
SPARE = 8  # rows beyond k that are scored by themselves
GATHERED_VALUES = 2**20  # numbers of rows that are scored by themselves at once
COLUMNS = 8192  # vectors of one product, whose scores stay in the cache until they are selected from
GATHERED = 0.25  # share of allowed rows below which those are copied out, and above which more than k are searched for


def best(vectors: FloatArray, queries: FloatArray, k: int) -> Results:
    """Scores and rows [N, min(k, G)] of the largest inner products of queries [N, V] with vectors [G, V].

    A product of matrices rounds a row by its place in it. So somewhat more rows are taken from it, and scored by themselves: equal vectors then
    have equal scores.
    """
    k = min(k, len(vectors))
    rows = _nearest(vectors, queries, min(k + SPARE, len(vectors)))
    scores, rows = in_order(products(vectors, queries, rows), rows)
    if 0 < k < len(vectors):
        for i in np.flatnonzero(scores[:, k - 1] == scores[:, -1]):  # a group of equal scores may be cut: take its lowest rows
            wanted, blocks = queries[i : i + 1], np.array_split(np.arange(len(vectors)), -(-len(vectors) // COLUMNS))
            every = np.concatenate([products(vectors, wanted, block[None]) for block in blocks], 1)
            all_scores, row = in_order(every, np.arange(len(vectors))[None])
            scores[i, :k], rows[i, :k] = all_scores[0, :k], row[0, :k]
    return scores[:, :k], rows[:, :k]


def products(vectors: FloatArray, queries: FloatArray, rows: IntArray) -> FloatArray:
    """The inner products [N, c] of each query [N, V] with its rows [N, c] of the vectors [G, V], rounded once, from float64.

    By numpy, for FAISS's threads would wait for those of torch, which have just multiplied.
    """
    scores = np.empty(rows.shape, dtype=np.float32)
    height = max(1, GATHERED_VALUES // max(rows.shape[1] * queries.shape[1], 1))
    for start in range(0, len(rows), height):
        block = slice(start, start + height)
        scores[block] = (vectors[rows[block]].astype(np.float64) @ queries[block, :, None].astype(np.float64))[:, :, 0]
    return scores


def _nearest(vectors: FloatArray, queries: FloatArray, k: int) -> IntArray:
    """Rows [N, k] of the k largest inner products of queries [N, V] with vectors [G, V], in any order.

    Which is faster depends on the number of queries: for many FAISS, which selects while it multiplies; for few torch, by two to five times, with the
    many vectors as the rows of the product. One query is asked twice, for a product of a matrix and a vector has one thread.
    """
    alone = len(queries) == 1
    if not 0 < len(queries) < FEW or k > SELECTED or (alone and (torch.get_num_threads() == 1 or len(vectors) < COLUMNS)):
        rows: IntArray = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)[1]
        return rows
    wanted, whole = torch.from_numpy(queries.repeat(2, 0) if alone else queries), _shared(vectors)
    values, indices = [], []
    for start in range(0, len(whole), COLUMNS):
        scores = (whole[start : start + COLUMNS] @ wanted.T).T
        largest = scores.topk(min(k, scores.shape[1]), dim=1, sorted=False)
        values.append(largest.values)
        indices.append(largest.indices + start)
    places = torch.cat(values, 1).topk(k, dim=1, sorted=False).indices
    return torch.cat(indices, 1).gather(1, places)[: len(queries)].numpy()


class _Writable:
    """An array that says that it may be written to; torch warns of others."""

    def __init__(self, array: FloatArray) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _shared(array: FloatArray) -> torch.Tensor:
    """A tensor over an array [G, V] where it lies, which may be a file that is only read."""
    return torch.from_numpy(np.asarray(_Writable(np.asarray(array))))


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
