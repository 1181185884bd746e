"""Is one row better than another? Paired differences, a bootstrap over seeds, classes and queries, and what could have been seen.

The same seed gives every recipe the same batches, and all rows are asked the same queries, so differences are taken query by query and
seed by seed. A resample draws seeds, then classes, then queries within their class, each with replacement: the interval says what other
seeds, other unseen classes and other drawings would have given. With one seed the seeds are not drawn, and the interval says less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbirlib.retrieval.bootstrap import resampled

Array = NDArray[np.float64]
LEVEL, POWER = 1.96, 0.84  # standard errors: 5 % on two sides, and seen four times in five


@dataclass(frozen=True)
class Difference:
    """The mean difference, its 95 % interval, and the smallest true difference that these runs would have shown four times in five."""

    mean: float
    low: float
    high: float
    detectable: float
    seeds: int

    @property
    def sure(self) -> bool:
        return self.low > 0 or self.high < 0


def paired(
    ours: Mapping[int, Sequence[float]], theirs: Mapping[int, Sequence[float]], category: Sequence[int], *, draws: int = 4000
) -> Difference:
    """Compare two rows by the values of their queries [Q], of which `category` [Q] is the class, for each seed that both have.

    Raises ValueError where they have no seed in common, or other numbers of queries.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        raise ValueError("the two rows have no seed in common")
    differences = np.array([np.subtract(ours[seed], theirs[seed]) for seed in seeds], dtype=np.float64)
    if differences.shape[1] != len(category):
        raise ValueError(f"{differences.shape[1]} values for {len(category)} queries")
    means = resampled(differences, np.asarray(category), draws=draws)
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(differences.mean()), float(low), float(high), (LEVEL + POWER) * float(means.std()), len(seeds))
