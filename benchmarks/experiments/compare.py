"""Paired comparison of two rows: hierarchical bootstrap over seeds, classes and queries, and the smallest detectable difference.

The same seed gives every row the same batches, and all rows are evaluated on the same queries, so differences are paired by query and
seed. A resample draws seeds, then classes, then queries within their class, each with replacement: the interval covers other seeds,
other unseen classes and other sketches. With one seed, seeds are not resampled, and the interval does not cover other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbirlib.retrieval.bootstrap import resampled

Array = NDArray[np.float64]
LEVEL, POWER = 1.96, 0.84  # in standard errors: a two-sided test at 5 %, with a power of 80 %


@dataclass(frozen=True)
class Difference:
    """Mean difference of two rows, its 95 % interval, and the smallest true difference detectable with a power of 80 %."""

    mean: float
    low: float
    high: float
    detectable: float
    seeds: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired(
    ours: Mapping[int, Sequence[float]], theirs: Mapping[int, Sequence[float]], category: Sequence[int], *, draws: int = 4000
) -> Difference:
    """Compare two rows by the values of their queries [Q], given by seed; `category` [Q] is the class of each query.

    Raises ValueError where they have no seed in common, or different numbers of queries.
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
