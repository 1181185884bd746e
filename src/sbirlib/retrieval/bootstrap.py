"""What other seeds, other classes and other drawings would have given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def resampled(values: Array, category: NDArray[np.int64], *, draws: int, seed: int = 0) -> Array:
    """The mean of values [seeds, Q] over each of `draws` resamples of seeds, classes and queries, as [draws]."""
    random = np.random.default_rng(seed)
    count = len(values)
    by_class = [np.flatnonzero(category == c) for c in np.unique(category)]
    means = np.empty(draws)
    for draw in range(draws):
        of_seed = values[random.integers(count, size=count)].mean(0) if count > 1 else values[0]
        total = number = 0.0
        for c in random.integers(len(by_class), size=len(by_class)):
            rows = by_class[c]
            total += float(of_seed[rows[random.integers(len(rows), size=len(rows))]].sum())
            number += len(rows)
        means[draw] = total / number
    return means
