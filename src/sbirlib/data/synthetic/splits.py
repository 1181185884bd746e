"""Splits of the synthetic dataset by category or by instance."""

from typing import Literal

import numpy as np
from numpy.random import Generator

from sbirlib.data.dataset import SPLITS, IntArray
from sbirlib.data.synthetic.categories import family
from sbirlib.errors import InputError

TRAIN, VALIDATION, TEST = (SPLITS.index(split) for split in ("train", "validation", "test"))
Disjoint = Literal["category", "instance", "half"]


def assign_splits(*, categories: int, unseen: int, instances: int, seed: int, disjoint: Disjoint) -> IntArray:
    """The split of every instance, [N] with N = categories * instances.

    "category": `unseen` categories are the test split and a tenth of the others, at least two, the validation split; siblings stay
    together. "instance": the share unseen / categories of the instances of every category is the test split. "half": as "category", but
    half of the instances of the test categories train.
    """
    rng = np.random.default_rng([seed, categories, unseen])
    if disjoint in ("category", "half"):
        split = np.full(categories, TRAIN, dtype=np.int64)
        families = _families(categories)
        split[_draw(rng, families, unseen)] = TEST
        rest = [group for group in families if split[group[0]] == TRAIN]
        split[_draw(rng, rest, max(2, round((categories - unseen) / 10)))] = VALIDATION
        of_instances = split.repeat(instances).reshape(categories, instances)
        if disjoint == "half":
            of_instances[split == TEST, : instances // 2] = TRAIN
        return of_instances.flatten()
    test = max(1, round(instances * unseen / categories))
    validation = max(1, round((instances - test) / 10))
    if test + validation >= instances:
        raise InputError(
            f"instances={instances} leave none for training beside {test} for the test and {validation} for validation: take more"
        )
    split = np.full(instances, TRAIN, dtype=np.int64)
    split[:test], split[test : test + validation] = TEST, VALIDATION
    return np.concatenate([rng.permutation(split) for _ in range(categories)])


def _families(categories: int) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for category in range(categories):
        groups.setdefault(family(category), []).append(category)
    return list(groups.values())


def _draw(rng: Generator, groups: list[list[int]], count: int) -> list[int]:
    """Draw `count` categories as whole families: pairs of siblings in their usual share, the rest without siblings."""
    pairs = [group for group in groups if len(group) == 2]
    singles = [group for group in groups if len(group) == 1]
    needed = -(-(count - len(singles)) // 2)
    of_pairs = min(len(pairs), count // 2, max(needed, round(0.3 * count)))
    of_singles = count - 2 * of_pairs
    if of_singles > len(singles):
        raise InputError(
            f"{count} categories cannot be taken from {sum(map(len, groups))} without parting siblings: give more categories, or fewer unseen"
        )
    families = [pairs[k] for k in rng.permutation(len(pairs))[:of_pairs]] + [singles[k] for k in rng.permutation(len(singles))[:of_singles]]
    return sorted(category for group in families for category in group)
