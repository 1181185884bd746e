"""Sampler of subtasks: batches of pairs within a few categories at a time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from sbirlib.plugin_api import Component, InputError, Labels, Pairs


@dataclass(frozen=True, kw_only=True)
class Subtasks(Component):
    """Batches of the sampler `pairs`, in subtasks of a few random categories each (Pang et al. 2019, section 4.2).

    An epoch splits all categories into subtasks; the rest that fills none is left out of the epoch. For the optimizer `reptile`. Raises
    InputError for fewer categories than a subtask needs, and where `pairs` does.

    Args:
        categories: categories of a subtask
        length: batches of a subtask, the `every` of the optimizer `reptile`
        pairs: sketches a batch, each with its photo
        per_category: different instances of one category a group; `pairs` is a multiple of it
    """

    categories: Annotated[int, Ge(1)] = 52
    length: Annotated[int, Ge(1)] = 500
    pairs: Annotated[int, Ge(1)] = 32
    per_category: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        Pairs(pairs=self.pairs, per_category=self.per_category)  # the two options must fit each other

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]:
        """Row numbers of each batch of an epoch."""
        pairs = Pairs(pairs=self.pairs, per_category=self.per_category)
        category = np.asarray(labels.category)
        categories = np.unique(category[category >= 0])
        if len(categories) < self.categories:
            raise InputError(f"subtasks take categories={self.categories}, and there are {len(categories)} to train on: set it lower")
        order = np.random.default_rng([seed, epoch]).permutation(categories)
        count = len(categories) // self.categories
        batches: list[list[int]] = []
        for number, subtask in enumerate(order[: count * self.categories].reshape(count, -1)):
            inside = Within(labels, np.where(np.isin(category, subtask), labels.instance, -1))
            seeds = np.random.default_rng([seed, epoch, number])
            passes = (pairs.batches(inside, seed=int(seeds.integers(2**31)), epoch=p) for p in itertools.count())
            batches += itertools.islice(itertools.chain.from_iterable(passes), self.length)
        return batches


@dataclass(frozen=True)
class Within:
    """Labels whose instances are set only in a subtask's categories."""

    labels: Labels
    instance: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.labels, name)

    def __len__(self) -> int:
        return len(self.labels)
