"""Ranks of the relevant photos by counting into bins, without sorting the gallery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.exact import fused

Array = NDArray[Any]
BINS, MAX_BINS = 12, 2**16  # of equal width, between a query's best relevant photo and its last: for each relevant photo, and at most
CROWDED = 16  # relevant photos in a bin, from which on sorting is faster
BLOCK = 400_000  # distances in a block: few enough for the cache, and enough to outweigh the cost of a call


def ranks(distances: Tensor, own: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of entries in a row of `distances` [Q, G] below each of `own` [Q, R], and equal to it; int64 [Q, R] each.

    A row of `own` holds some of its row of distances, ascending: the first `relevant` [Q, 1] entries, then infinity, for which the
    result has no meaning. On a CPU the distances are counted into bins, with no sort, by the compiled kernel where it was loaded.
    """
    if distances.device.type != "cpu":
        return _search(distances, own)
    if (count := fused.loaded()) is not None:
        below, equal = torch.empty(2, *own.shape, dtype=torch.int64)
        photos = distances.shape[1]
        if count(
            fused.contiguous(distances), photos, own.contiguous().numpy(), relevant[:, 0].contiguous().numpy(), below.numpy(), equal.numpy()
        ):
            return below, equal
        return _search(distances, own)
    below, equal = (torch.empty(own.shape, dtype=torch.int64) for _ in range(2))
    blocks = -(-len(own) // max(1, BLOCK // distances.shape[1]))
    for block in (slice(len(own) * i // blocks, len(own) * (i + 1) // blocks) for i in range(blocks)):
        counts = _count(np.ascontiguousarray(distances[block].numpy()), own[block].numpy(), relevant[block].numpy())
        if counts is None:
            below[block], equal[block] = _search(distances[block], own[block])
        else:
            below[block], equal[block] = (torch.from_numpy(values) for values in counts)
    return below, equal


def ascending(rows: Tensor) -> Tensor:
    """Rows [N, m] in ascending order, NaN last; on a CPU by NumPy, whose sort uses vector instructions."""
    return torch.from_numpy(np.sort(rows.numpy(), axis=1)) if rows.device.type == "cpu" else rows.sort(dim=1).values


def _search(distances: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """`ranks` by a sort and binary search."""
    ordered = ascending(distances)
    if ordered[:, -1].isnan().any():
        raise InputError("a score is not a number: a vector holds NaN or infinity. Encode with finite weights, or leave that image out")
    below = torch.searchsorted(ordered, own)
    return below, torch.searchsorted(ordered, own, right=True) - below


def _count(rows: Array, own: Array, relevant: Array) -> tuple[Array, Array] | None:
    """`ranks` of a block by counting; None where too many of `own` share a bin, or a distance is not finite.

    The bin of a distance never falls as the distance grows. So all entries of a lower bin lie below a relevant photo, and distances
    are compared with relevant photos only within a bin.
    """
    queries, most = own.shape
    bins = min(BINS * most, MAX_BINS)
    bin_ids = _binning(own[:, :1], np.take_along_axis(own, relevant - 1, axis=1), bins, rows)
    if bin_ids is None:
        return None
    valid = np.arange(most) < relevant
    line, width = np.arange(queries)[:, None], bins + 4  # the last bin of each row is for the padding of `own`
    own_bin = np.where(valid, bin_ids(own).numpy(), (line + 1) * width - 1)
    if (valid[:, CROWDED:] & (own_bin[:, CROWDED:] == own_bin[:, :-CROWDED])).any():
        return None
    followed = np.zeros((queries, most + 1), dtype=np.bool_)  # by another key in the same bin
    followed[:, : most - 1] = (own_bin[:, 1:] == own_bin[:, :-1]) & valid[:, 1:]
    keys = np.full_like(own, np.inf, shape=(queries, most + 1))
    keys[:, :most] = own

    row_bin, occupied = bin_ids(rows).view(-1), own_bin.ravel()
    has_key = np.zeros(queries * width, dtype=np.bool_)
    has_key[occupied] = True
    elsewhere = torch.bincount(row_bin, minlength=len(has_key)).numpy()  # torch takes int32, which NumPy would convert
    elsewhere[occupied] = 0
    elsewhere = elsewhere.reshape(queries, width)
    elsewhere = elsewhere.cumsum(axis=1, out=elsewhere).ravel().take(own_bin)

    first = np.empty(len(has_key), dtype=np.int32)
    first[occupied[::-1]] = (np.arange(most) + line * (most + 1)).ravel()[::-1]  # the last write stays: the lowest key of the bin
    inside = np.flatnonzero(torch.from_numpy(has_key).index_select(0, row_bin).numpy())
    at, same = _compare(rows.ravel().take(inside), first.take(row_bin.numpy().take(inside)), keys.ravel(), followed.ravel())
    below, equal = (np.bincount(values, minlength=keys.size).reshape(keys.shape)[:, :-1] for values in (at, same))
    return below.cumsum(axis=1) + elsewhere, equal


def _binning(low: Array, high: Array, bins: int, rows: Array) -> Callable[[Array], Tensor] | None:
    """Return a function that maps distances [Q, n] to int32 bin ids [Q, n]; row i uses ids from i * (bins + 4).

    Distances below `low` [Q, 1] get the first of these ids and distances above `high` [Q, 1] the one at bins + 2, roughly. None where a
    bound or an entry of `rows` is not finite.
    """
    with np.errstate(all="ignore"):
        scale = np.where(high > low, bins / (high - low), 1).astype(rows.dtype)
        shift = 1 - low * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all() and rows.max() < np.inf):
        return None
    times, plus, line = (torch.from_numpy(x) for x in (scale, shift, np.arange(len(low), dtype=np.int32)[:, None] * np.int32(bins + 4)))

    def bin_ids(values: Array) -> Tensor:
        """Bin ids [Q, n] of distances [Q, n]."""
        place = torch.from_numpy(values).mul(times).add_(plus).clamp_(0, bins + 2).float()
        return place.view(torch.int32).copy_(place).add_(line)  # rounds down, in the memory of the floats

    return bin_ids


def _compare(distances: Array, at: Array, keys: Array, followed: Array) -> tuple[Array, Array]:
    """Positions in `keys`: of the key that each distance [N] lies below, searched from `at` [N], the first of its bin; and of every key it equals."""
    key = keys.take(at)
    passed = distances >= key
    same = at.take(np.flatnonzero(distances == key))
    again = np.flatnonzero(passed & followed.take(at))
    at = at + passed
    if len(again):
        at[again], more = _compare(distances.take(again), at.take(again), keys, followed)
        same = np.concatenate([same, more])
    return at, same
