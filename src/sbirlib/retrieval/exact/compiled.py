"""Ranks of the relevant photos in one pass over the scores, compiled by numba without the GIL, once for each type of scores."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BINS = 8  # of equal width, between a query's best relevant photo and its last, for each relevant photo
FEW = np.uint64(8)  # relevant photos in a bin, above which they are searched by halves
ONE = np.uint64(1)  # an index without a sign needs no test for counting from the end
compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@compiled
def places(row: Array, low: Any, scale: Any, top: Any, result: Array) -> bool:
    """Bins [n] of distances [n], from 0 to `top`; whether all are finite. Vector instructions do it."""
    odd = 0
    for i in range(len(row)):
        place = (row[i] - low) * scale
        odd |= int(not (abs(row[i]) < np.inf))
        place = place if place > 0 else 0  # NaN too
        result[i] = np.int32(place if place < top else top)
    return odd == 0


@compiled
def tally(row: Array, place: Array, first: Array, keys: Array, before: Array, same: Array) -> None:
    """Add each distance to the key that it lies below, and to the key that it equals."""
    for i in range(len(row)):
        distance, start = row[i], np.uint64(place[i])
        at, end = np.uint64(first[start]), np.uint64(first[start + ONE])
        while end > at + FEW:
            middle = (at + end) >> ONE
            if keys[middle] <= distance:
                at = middle + ONE
            else:
                end = middle
        at += np.uint64(keys[at] <= distance)  # without a branch, which no processor would foresee
        while keys[at] <= distance:
            at += ONE
        before[at] += 1
        if keys[at - ONE] == distance:
            same[at - ONE] += 1


@compiled
def count(rows: Array, photos: int, own: Array, relevant: Array, below: Array, equal: Array) -> bool:
    """See `fused.kernel`."""
    most = own.shape[1]
    keys, place = np.empty(most + 2, rows.dtype), np.empty(photos, np.int32)
    before, same = np.empty(most + 2, np.int64), np.empty(most + 2, np.int64)
    first = np.empty(BINS * most + 3, np.int32)  # key that distances of a bin are compared with first, counted from 1
    for i in range(len(rows)):
        n, row = relevant[i], rows[i][:photos]
        keys[0], keys[n + 1] = -np.inf, np.inf
        keys[1 : n + 1] = own[i, :n]
        width = keys[n] - keys[1]
        bins = BINS * n
        scale = bins / width if width > 0 else 0.0
        if not (width < np.inf and scale < np.inf):
            bins, scale = 0, 0.0
        low, scale, top = keys[1], rows.dtype.type(scale), rows.dtype.type(bins)
        finite = places(keys[1 : n + 1], low, scale, top, place)
        filled = 0
        for j in range(n):
            while filled <= place[j]:
                first[filled] = j + 1
                filled += 1
        first[filled : bins + 2] = n + 1
        before[: n + 2], same[: n + 2] = 0, 0
        if not (places(row, low, scale, top, place) and finite):
            return False
        tally(row, place, first, keys, before, same)
        lower = 0
        for j in range(n):
            lower += before[j + 1]
            below[i, j], equal[i, j] = lower, same[j + 1]
        for j in range(n - 2, -1, -1):
            if keys[j + 1] == keys[j + 2]:
                equal[i, j] = equal[i, j + 1]
    return True
