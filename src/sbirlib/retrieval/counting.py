"""How many photos lie before each relevant one: counted, which is quicker than to sort them all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbirlib.errors import InputError

Array = NDArray[Any]
BINS, MOST = 8, 2**16  # of equal width, between a query's best relevant photo and its last: so many for each, and at most
CROWDED = 16  # relevant photos in a bin: from here on sorting is quicker
BLOCK = 200_000  # distances that are worked on at once, which fit the cache


def ranks(distances: Tensor, own: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor]:
    """How many of its row of `distances` [q, G] lie below each of `own` [q, R], and how many equal it; int64 [q, R] each.

    A row of `own` holds some of its row of distances, ascending, the first `relevant` [q, 1] of them; what is found for the others means
    nothing. On a processor the distances are counted into bins: no sort, nor any search that leaps through memory.
    """
    if distances.device.type != "cpu":
        return _searched(distances, own)
    below, equal = (torch.empty(own.shape, dtype=torch.int64) for _ in range(2))
    step = max(1, BLOCK // distances.shape[1])

    def block(start: int) -> None:
        some = slice(start, start + step)
        rows = np.ascontiguousarray(distances[some].numpy())
        found = _counted(rows, own[some].numpy(), relevant[some].numpy())
        if found is None:
            below[some], equal[some] = _searched(distances[some], own[some])
        else:
            below[some], equal[some] = (torch.from_numpy(values) for values in found)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(block, range(0, len(own), step)))
    return below, equal


def ascending(rows: Tensor) -> Tensor:
    """Rows [n, m] in order, NaN last; on a processor by NumPy, whose sort uses vector instructions."""
    return torch.from_numpy(np.sort(rows.numpy(), axis=1)) if rows.device.type == "cpu" else rows.sort(dim=1).values


def _searched(distances: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    ordered = ascending(distances)
    if ordered[:, -1].isnan().any():
        raise InputError("a score is not a number: a vector holds NaN or infinity. Encode with finite weights, or leave that image out")
    below = torch.searchsorted(ordered, own)
    return below, torch.searchsorted(ordered, own, right=True) - below


def _counted(rows: Array, own: Array, relevant: Array) -> tuple[Array, Array] | None:
    """The same of a few rows, or None where too many of `own` crowd into one bin, or a distance is not finite.

    A photo's bin never falls as its distance grows. So what is in a lower bin than a relevant photo lies below it, and only within a bin
    are distances compared, with each relevant photo there.
    """
    queries, most = own.shape
    bins, width = min(BINS * most, MOST), most + 1
    high = np.take_along_axis(own, relevant - 1, axis=1)
    binned = _binning(own[:, :1], high, bins, rows)
    if binned is None:
        return None
    there = np.arange(most) < relevant
    keys = np.full((queries, width), np.inf, dtype=own.dtype)
    keys[:, :-1][there] = own[there]
    bin_of = binned(np.where(there, own, high))
    count = np.bincount(bin_of[there], minlength=queries * (bins + 3)).reshape(queries, -1)
    if count.max() > CROWDED:
        return None
    followed = np.zeros((queries, width), dtype=np.bool_)  # by another in its bin
    followed[:, : most - 1] = (bin_of[:, 1:] == bin_of[:, :-1]) & there[:, 1:]
    line = np.arange(queries)[:, None]
    first = (count.cumsum(axis=1) - count + line * width).ravel().take(binned(rows).ravel())  # of the keys in each distance's bin
    at, same = _compared(rows.ravel(), first, keys.ravel(), followed.ravel(), int(count.max()))
    below, equal = (np.bincount(values, minlength=queries * width).reshape(queries, -1)[:, :-1] for values in (at, same))
    return below.cumsum(axis=1), equal


def _binning(low: Array, high: Array, bins: int, rows: Array) -> Callable[[Array], Array] | None:
    """What gives the bin of each distance [q, n]: about 0 below `low` [q, 1], bins + 2 above `high`, those of one row after another's; None
    where a bound or one of `rows` is not finite."""
    with np.errstate(all="ignore"):
        scale = np.where(high > low, bins / (high - low), 1).astype(rows.dtype)
        shift = 1 - low * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all() and rows.max() < np.inf):
        return None
    line = np.arange(len(low))[:, None] * (bins + 3)

    def binned(values: Array) -> Array:
        with np.errstate(over="ignore"):
            place = values * scale
            place += shift
        found: Array = np.clip(place, 0, bins + 2, out=place).astype(np.intp)
        found += line
        return found

    return binned


def _compared(distances: Array, first: Array, keys: Array, followed: Array, crowd: int) -> tuple[Array, Array]:
    """The key that each distance lies below, from the `first` of its bin on, and every key that one equals: as places in `keys`."""
    key = keys.take(first)
    passed = distances >= key
    same = [first[np.flatnonzero(distances == key)]]
    at = first + passed
    again = np.flatnonzero(passed & followed.take(first)) if crowd > 1 else np.empty(0, np.intp)
    if len(again):
        values, nearer = distances[again], at[again]
        for _ in range(1, crowd):
            key = keys.take(nearer)
            same.append(nearer[values == key])
            nearer += values >= key
        at[again] = nearer
    return at, np.concatenate(same)
