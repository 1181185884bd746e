"""Batches of pairs that stay within a few categories for a while."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbirlib.data.samplers import Pairs
from sbirlib.errors import InputError
from sbirlib.interfaces import Labels


@dataclass(frozen=True, kw_only=True)
class Subtasks:
    """The batches of the sampler `pairs`, `length` at a time from the same `categories`, drawn at random (Pang et al. 2019, section 4.2).

    An epoch parts all categories into subtasks; the categories that fill none wait for another epoch. For the optimizer `reptile`, whose
    `every` is the `length`. Raises InputError for fewer categories than a subtask needs, and where `pairs` does.
    """

    categories: int = 52
    length: int = 500
    pairs: int = 32
    per_category: int = 1

    def __post_init__(self) -> None:
        Pairs(pairs=self.pairs, per_category=self.per_category)  # refuses what it would refuse
        if self.categories < 1 or self.length < 1:
            raise InputError(f"subtasks: categories and length must be at least 1, got {self.categories} and {self.length}")

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]:
        pairs = Pairs(pairs=self.pairs, per_category=self.per_category)
        category = np.asarray(labels.category)
        known = np.unique(category[category >= 0])
        if len(known) < self.categories:
            raise InputError(f"subtasks take categories={self.categories}, and there are {len(known)} to train on: set it lower")
        order = np.random.default_rng([seed, epoch]).permutation(known)
        count = len(known) // self.categories
        found: list[list[int]] = []
        for number, chosen in enumerate(order[: count * self.categories].reshape(count, -1)):
            inside = Within(labels, np.where(np.isin(category, chosen), labels.instance, -1))
            seeds = np.random.default_rng([seed, epoch, number])
            passes = (pairs.batches(inside, seed=int(seeds.integers(2**31)), epoch=p) for p in itertools.count())
            found += itertools.islice(itertools.chain.from_iterable(passes), self.length)
        return found


@dataclass(frozen=True)
class Within:
    """Labels whose instances are known only where they may be drawn."""

    labels: Labels
    instance: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.labels, name)

    def __len__(self) -> int:
        return len(self.labels)
