"""Paired comparison of two models: hierarchical bootstrap over seeds, classes and queries, and the smallest detectable difference.

The same seed gives both models the same batches, and both are evaluated on the same queries, so differences are paired by query and
seed. A resample draws seeds, then classes, then queries within their class, each with replacement: the interval covers other seeds,
other unseen classes and other sketches. With one seed, seeds are not resampled, and the interval does not cover other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sbirlib.retrieval.bootstrap import Array, resampled

LEVEL, POWER = 1.96, 0.84  # in standard errors: a two-sided test at 5 %, with a power of 80 %


@dataclass(frozen=True)
class Difference:
    """Mean difference of two models, its 95 % interval, and the smallest true difference detectable with a power of 80 %."""

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
    ours: Mapping[int, Sequence[float]],
    theirs: Mapping[int, Sequence[float]],
    category: Sequence[int],
    *,
    over: Literal["queries", "classes"] = "queries",
    draws: int = 4000,
) -> Difference:
    """Compare two models by the values of their queries [Q], given by seed; `category` [Q] is the class of each query.

    The difference is a mean `over` queries, or over classes of each class's mean. Raises ValueError where the two have no seed in common,
    or different numbers of queries.

    >>> paired({0: [0.5, 0.6, 0.9]}, {0: [0.4, 0.5, 0.5]}, [0, 0, 1], over="classes").mean
    0.25
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        raise ValueError("the two models have no seed in common")
    differences = np.array([np.subtract(ours[seed], theirs[seed]) for seed in seeds], dtype=np.float64)
    if differences.shape[1] != len(category):
        raise ValueError(f"{differences.shape[1]} values for {len(category)} queries")
    classes = np.asarray(category)
    means = getattr(resampled(differences, classes, draws=draws), over)
    low, high = np.percentile(means, [2.5, 97.5])
    mean = differences.mean() if over == "queries" else class_mean(differences, classes)
    return Difference(float(mean), float(low), float(high), (LEVEL + POWER) * float(means.std()), len(seeds))


def class_mean(values: Array, category: NDArray[np.int64]) -> float:
    """The mean over the classes of `category` [Q] of each class's mean of `values` [seeds, Q].

    >>> class_mean(np.array([[1.0, 1.0, 0.0]]), np.array([0, 0, 1]))
    0.5
    """
    return float(np.mean([values[:, category == c].mean() for c in np.unique(category)]))
