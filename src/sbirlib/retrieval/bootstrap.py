"""Hierarchical bootstrap of a mean over seeds, classes and queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BLOCK = 1_000_000  # resampled queries of a class at once


def resampled(values: Array, category: NDArray[np.int64], *, draws: int, seed: int = 0) -> Array:
    """The mean of values [seeds, Q] over each of `draws` resamples of seeds, classes (`category` [Q]) and queries, as [draws]."""
    random = np.random.default_rng(seed)
    by_class = [values[:, category == c] for c in np.unique(category)]
    step = max(1, BLOCK // max(own.shape[1] for own in by_class))
    return np.concatenate([_means(by_class, min(step, draws - start), random) for start in range(0, draws, step)])


def _means(by_class: list[Array], draws: int, random: np.random.Generator) -> Array:
    """The means [draws] of some resamples of the values [seeds, q] of each class."""
    count = len(by_class[0])
    seeds = random.integers(count, size=(draws, count))
    shares = (seeds[:, :, None] == np.arange(count)).mean(1)  # of each seed in a draw
    classes = random.integers(len(by_class), size=(draws, len(by_class)))
    total, number = np.zeros(draws), np.zeros(draws)
    for c, own in enumerate(by_class):
        draw = np.repeat(np.arange(draws), (classes == c).sum(1))  # each draw as often as it contains this class
        queries = random.integers(own.shape[1], size=(len(draw), own.shape[1]))
        sums = (shares @ own)[draw[:, None], queries].sum(1)
        total += np.bincount(draw, weights=sums, minlength=draws)
        number += np.bincount(draw, minlength=draws) * own.shape[1]
    return total / number
