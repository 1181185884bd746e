"""Grey levels of more than 8 bits as 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbirlib.errors import InputError


def eight_bits(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Levels [H, W] of an image as uint8 [H, W].

    16 bits lose the lower 8. Integers of 32 bits say nothing of their range, nor do floats: levels in [0, 255] are taken as 8 bits, integers in
    [0, 65535] as 16, floats in [0, 1] as shares of the brightest, and all others, such as depths, are stretched from the least to the largest.
    NaN is the least. Raises InputError where no level is finite.

    >>> eight_bits(np.array([[0.0, 0.5, 1.0]])), eight_bits(np.array([[-1000, 0, 1000]]))
    (array([[  0, 128, 255]], dtype=uint8), array([[  0, 128, 255]], dtype=uint8))
    """
    if levels.dtype.itemsize == 2:
        return (levels >> 8).astype(np.uint8)
    finite = levels[np.isfinite(levels)]
    if finite.size == 0:
        raise InputError("no level of the image is a finite number: replace or remove it")
    low, high = float(finite.min()), float(finite.max())
    integers = np.issubdtype(levels.dtype, np.integer)
    values = np.nan_to_num(levels.astype(np.float64), nan=low, posinf=high, neginf=low)
    if low >= 0 and high <= 1 and not integers:
        values *= 255
    elif low >= 0 and integers and 255 < high <= 65535:
        values //= 256
    elif low < 0 or high > 255:
        values = (values - low) / max(high - low, np.finfo(np.float64).tiny) * 255
    return values.round().astype(np.uint8)
