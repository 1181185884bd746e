"""The compiled kernel of ranks, where numba is installed (`sbirlib[fast]`) and works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

logger = logging.getLogger(__name__)
Array = NDArray[Any]
Kernel = Callable[[Array, int, Array, Array, Array, Array], bool]


WORTH = 4 * 10**8  # scores, below which loading numba takes longer than it saves


def load(scores: int) -> None:
    """Load the kernel for so many scores, where that is worth it; later calls in this process then use it for any number."""
    if scores >= WORTH:
        kernel()


def loaded() -> Kernel | None:
    """The kernel, if it was loaded and works."""
    return kernel() if kernel.cache_info().currsize else None


@cache
def kernel() -> Kernel | None:
    """Compiled `count(rows, photos, own, relevant, below, equal)`; None without numba, and with a warning where it does not work.

    The first G = photos of rows [Q, W], which are contiguous, are distances, and own [Q, R] some of each row, ascending, of which the first
    `relevant` [Q] count; below and equal, int64 [Q, R], receive the numbers of distances below each, and equal to it. The result is False where
    a distance is not finite, and below and equal then mean nothing. The bin of a distance never falls as the distance grows: it gives the first
    relevant photo that has to be compared, and on the mean less than one more is.
    """
    if find_spec("numba") is None:
        return None
    try:
        count: Kernel = import_module("sbirlib.retrieval.exact.compiled").count
        check(count)
    except Exception as error:  # of an installation that is broken, in any way; the plain path gives the same ranks
        logger.warning(
            "numba is installed and does not work (%s: %s), so metrics take longer, with the same values: pip install --upgrade 'sbirlib[fast]'",
            type(error).__name__,
            str(error).strip().partition("\n")[0],
        )
        return None
    return count


def contiguous(distances: Tensor) -> Array:
    """Distances [Q, G] as contiguous rows [Q, W] that begin with them: those of the buffer they lie in, without a copy, where there is one."""
    rows, stride = len(distances), distances.stride(0)
    inside = distances.storage_offset() + rows * stride <= distances.untyped_storage().nbytes() // distances.element_size()
    if distances.stride(1) == 1 and stride >= distances.shape[1] and inside:
        return distances.as_strided((rows, stride), (stride, 1)).numpy()
    return distances.contiguous().numpy()


def check(count: Kernel) -> None:
    """Raise ValueError unless a small case comes out right; compiles for float32."""
    rows, own = np.array([[1, 0, 1, 2]], dtype=np.float32), np.array([[1, 2]], dtype=np.float32)
    below, equal = np.empty((2, 1, 2), dtype=np.int64)
    finite = count(rows, 4, own, np.array([2]), below, equal)
    if not finite or (*below[0], *equal[0]) != (1, 3, 2, 1):
        raise ValueError("its ranks of a known case are wrong")
