"""Metric values of each query, their means over queries and over classes, and bootstrap intervals of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.bootstrap import resampled

CLASS = "class_"  # prefix of a mean over classes
T = TypeVar("T")


@dataclass(frozen=True)
class PerQuery:
    """`values` [Q] of each metric by name, NaN for a query without a relevant photo."""

    values: dict[str, Tensor]

    @property
    def left_out(self) -> int:
        """The number of queries without a relevant photo; they count in no mean."""
        return int((~self._valid()).sum())

    @property
    def means(self) -> dict[str, float]:
        """The mean of each metric over the queries that have a relevant photo."""
        means = {name: float(values.nanmean()) for name, values in self.values.items()}
        if any(mean != mean for mean in means.values()):
            raise InputError("no query has a relevant photo in the gallery: queries and gallery must share labels. Check their split")
        return means

    def class_means(self, category: Tensor) -> dict[str, float]:
        """The mean of each metric over the classes of `category` [Q], of each class's mean over its queries that have a relevant photo.

        The name of a metric has the prefix `class_`. Queries without a category, -1, are one class.
        """
        classes = self.by_class(category).values()
        return {f"{CLASS}{name}": sum(means[name] for means in classes) / len(classes) for name in self.means}

    def averages(self, category: Tensor) -> dict[str, float]:
        """Both means of each metric, side by side: over queries, and over the classes of `category` [Q]."""
        classes = self.class_means(category)
        return {key: value for name, mean in self.means.items() for key, value in _both(name, mean, classes[f"{CLASS}{name}"])}

    def by_class(self, category: Tensor) -> dict[int, dict[str, float]]:
        """The means over the queries of each class in `category` [Q], without the queries that have no relevant photo."""
        valid = self._valid()
        return {
            c: {name: float(values[valid & (category == c)].mean()) for name, values in self.values.items()}
            for c in category[valid].unique().tolist()
        }

    def intervals(self, category: Tensor, *, draws: int = 2000) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each of `averages`, by a bootstrap over the classes `category` [Q] and the queries within them."""
        valid = self._valid()
        rows = {name: resampled(values[valid].numpy()[None], category[valid].numpy(), draws=draws) for name, values in self.values.items()}
        means = {key: value for name, row in rows.items() for key, value in _both(name, row.queries, row.classes)}
        return {name: tuple(np.percentile(row, [2.5, 97.5]).tolist()) for name, row in means.items()}

    def _valid(self) -> Tensor:
        return ~next(iter(self.values.values())).isnan()


def _both(name: str, over_queries: T, over_classes: T) -> tuple[tuple[str, T], tuple[str, T]]:
    return (name, over_queries), (f"{CLASS}{name}", over_classes)
