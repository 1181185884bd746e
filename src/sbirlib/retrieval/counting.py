"""How many photos lie before each relevant one: counted, which is quicker than to sort them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbirlib.errors import InputError

Array = NDArray[Any]
BINS, MOST = 12, 2**16  # of equal width, between a query's best relevant photo and its last: so many for each, and at most
CROWDED = 16  # relevant photos in a bin: from here on sorting is quicker
BLOCK = 400_000  # distances that are worked on at once: few enough for the cache, and enough for an operation to be worth its call


def ranks(distances: Tensor, own: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor]:
    """How many of its row of `distances` [q, G] lie below each of `own` [q, R], and how many equal it; int64 [q, R] each.

    A row of `own` holds some of its row of distances, ascending, the first `relevant` [q, 1] of them, and infinity from there on; what is
    found for that means nothing. On a processor the distances are counted into bins: no sort, nor any search that leaps through memory.
    """
    if distances.device.type != "cpu":
        return _searched(distances, own)
    below, equal = (torch.empty(own.shape, dtype=torch.int64) for _ in range(2))
    count = -(-len(own) // max(1, BLOCK // distances.shape[1]))
    for some in (slice(len(own) * i // count, len(own) * (i + 1) // count) for i in range(count)):
        found = _counted(np.ascontiguousarray(distances[some].numpy()), own[some].numpy(), relevant[some].numpy())
        if found is None:
            below[some], equal[some] = _searched(distances[some], own[some])
        else:
            below[some], equal[some] = (torch.from_numpy(values) for values in found)
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
    bins = min(BINS * most, MOST)
    binned = _binning(own[:, :1], np.take_along_axis(own, relevant - 1, axis=1), bins, rows)
    if binned is None:
        return None
    there = np.arange(most) < relevant
    line, width = np.arange(queries)[:, None], bins + 4  # the last bin of each row is for what pads `own`
    held = np.where(there, binned(own).numpy(), (line + 1) * width - 1)
    if (there[:, CROWDED:] & (held[:, CROWDED:] == held[:, :-CROWDED])).any():
        return None
    followed = np.zeros((queries, most + 1), dtype=np.bool_)  # by another in its bin
    followed[:, : most - 1] = (held[:, 1:] == held[:, :-1]) & there[:, 1:]
    keys = np.full_like(own, np.inf, shape=(queries, most + 1))
    keys[:, :most] = own

    place, holding = binned(rows).view(-1), held.ravel()
    holds = np.zeros(queries * width, dtype=np.bool_)
    holds[holding] = True
    elsewhere = torch.bincount(place, minlength=len(holds)).numpy()  # torch takes int32, which NumPy would convert
    elsewhere[holding] = 0
    elsewhere = elsewhere.reshape(queries, width)
    elsewhere = elsewhere.cumsum(axis=1, out=elsewhere).ravel().take(held)

    first = np.empty(len(holds), dtype=np.int32)
    first[holding[::-1]] = (np.arange(most) + line * (most + 1)).ravel()[::-1]  # the key that is written last stays: the lowest of the bin
    inside = np.flatnonzero(torch.from_numpy(holds).index_select(0, place).numpy())
    at, same = _compared(rows.ravel().take(inside), first.take(place.numpy().take(inside)), keys.ravel(), followed.ravel())
    below, equal = (np.bincount(values, minlength=keys.size).reshape(keys.shape)[:, :-1] for values in (at, same))
    return below.cumsum(axis=1) + elsewhere, equal


def _binning(low: Array, high: Array, bins: int, rows: Array) -> Callable[[Array], Tensor] | None:
    """What gives the bin of each distance [q, n], int32: about 0 below `low` [q, 1], bins + 2 above `high`, those of one row bins + 4 after
    another's; None where a bound or one of `rows` is not finite."""
    with np.errstate(all="ignore"):
        scale = np.where(high > low, bins / (high - low), 1).astype(rows.dtype)
        shift = 1 - low * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all() and rows.max() < np.inf):
        return None
    times, plus, line = (torch.from_numpy(x) for x in (scale, shift, np.arange(len(low), dtype=np.int32)[:, None] * np.int32(bins + 4)))

    def binned(values: Array) -> Tensor:
        place = torch.from_numpy(values).mul(times).add_(plus).clamp_(0, bins + 2).float()
        return place.view(torch.int32).copy_(place).add_(line)  # in the memory of the numbers that are rounded down

    return binned


def _compared(distances: Array, at: Array, keys: Array, followed: Array) -> tuple[Array, Array]:
    """The key that each distance lies below, from the first of its bin on, and every key that one equals: as places in `keys`."""
    key = keys.take(at)
    passed = distances >= key
    same = at.take(np.flatnonzero(distances == key))
    again = np.flatnonzero(passed & followed.take(at))
    at = at + passed
    if len(again):
        at[again], more = _compared(distances.take(again), at.take(again), keys, followed)
        same = np.concatenate([same, more])
    return at, same
