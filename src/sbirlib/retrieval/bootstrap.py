"""Hierarchical bootstrap of a mean over queries, and of a mean over classes, by seeds, classes and queries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BLOCK = 1_000_000  # resampled queries of a class at once


class Resamples(NamedTuple):
    """The means [draws] of the resamples: over their queries, and over their classes of each class's mean."""

    queries: Array
    classes: Array


def resampled(values: Array, category: NDArray[np.int64], *, draws: int, seed: int = 0) -> Resamples:
    """The means [draws] of values [seeds, Q] over resamples of seeds, classes (`category` [Q]) and queries, with replacement."""
    random = np.random.default_rng(seed)
    by_class = [values[:, category == c] for c in np.unique(category)]
    step = max(1, BLOCK // max(own.shape[1] for own in by_class))
    blocks = [_means(by_class, min(step, draws - start), random) for start in range(0, draws, step)]
    return Resamples(*map(np.concatenate, zip(*blocks, strict=True)))


def _means(by_class: list[Array], draws: int, random: np.random.Generator) -> Resamples:
    """The means [draws] of some resamples of the values [seeds, q] of each class."""
    count = len(by_class[0])
    seeds = random.integers(count, size=(draws, count))
    shares = (seeds[:, :, None] == np.arange(count)).mean(1)  # of each seed in a draw
    classes = random.integers(len(by_class), size=(draws, len(by_class)))
    total, number, class_total = np.zeros(draws), np.zeros(draws), np.zeros(draws)
    for c, own in enumerate(by_class):
        draw = np.repeat(np.arange(draws), (classes == c).sum(1))  # each draw as often as it contains this class
        queries = random.integers(own.shape[1], size=(len(draw), own.shape[1]))
        sums = (shares @ own)[draw[:, None], queries].sum(1)
        total += np.bincount(draw, weights=sums, minlength=draws)
        class_total += np.bincount(draw, weights=sums / own.shape[1], minlength=draws)
        number += np.bincount(draw, minlength=draws) * own.shape[1]
    return Resamples(total / number, class_total / len(by_class))
