"""Metric values of each query, their means, class means and bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.bootstrap import resampled


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

    def by_class(self, category: Tensor) -> dict[int, dict[str, float]]:
        """The means over the queries of each class in `category` [Q], without the queries that have no relevant photo."""
        valid = self._valid()
        return {
            c: {name: float(values[valid & (category == c)].mean()) for name, values in self.values.items()}
            for c in category[valid].unique().tolist()
        }

    def intervals(self, category: Tensor, *, draws: int = 2000) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each mean, by a bootstrap over the classes `category` [Q] and the queries within them."""
        valid = self._valid()
        rows = {name: resampled(values[valid].numpy()[None], category[valid].numpy(), draws=draws) for name, values in self.values.items()}
        return {name: tuple(np.percentile(means, [2.5, 97.5]).tolist()) for name, means in rows.items()}

    def _valid(self) -> Tensor:
        return ~next(iter(self.values.values())).isnan()
