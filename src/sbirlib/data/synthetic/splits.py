"""Which instances of the synthetic set are for training, for validation and for the test."""

import numpy as np
from numpy.random import Generator

from sbirlib.data.dataset import ROLES, IntArray
from sbirlib.data.synthetic.categories import family
from sbirlib.errors import InputError, nearest

TRAIN, VALIDATION, TEST = (ROLES.index(role) for role in ("train", "validation", "test"))


def roles(*, categories: int, unseen: int, instances: int, seed: int, disjoint: str) -> IntArray:
    """The role of every instance, [categories * instances].

    By category: `unseen` categories are the test's and a tenth of the others, at least two, the validation's; siblings stay together.
    By instance: the same share, unseen / categories, of the instances of every category is the test's. By half: as by category, but
    half of the instances of the test's categories train, which shows what could be reached if nothing were unseen.
    """
    rng = np.random.default_rng([seed, categories, unseen])
    if disjoint in ("category", "half"):
        role = np.full(categories, TRAIN, dtype=np.int64)
        left = _families(categories)
        role[_taken(rng, left, unseen)] = TEST
        left = [group for group in left if role[group[0]] == TRAIN]
        role[_taken(rng, left, max(2, round((categories - unseen) / 10)))] = VALIDATION
        of_instances = role.repeat(instances).reshape(categories, instances)
        if disjoint == "half":
            of_instances[role == TEST, : instances // 2] = TRAIN
        return of_instances.flatten()
    if disjoint == "instance":
        test = max(1, round(instances * unseen / categories))
        validation = max(1, round((instances - test) / 10))
        if test + validation >= instances:
            raise InputError(
                f"instances={instances} leave none for training beside {test} for the test and {validation} for validation: take more"
            )
        role = np.full(instances, TRAIN, dtype=np.int64)
        role[:test], role[test : test + validation] = TEST, VALIDATION
        return np.concatenate([rng.permutation(role) for _ in range(categories)])
    raise InputError(f"disjoint={disjoint!r} is no way to split the synthetic set{nearest(disjoint, ['category', 'instance', 'half'])}")


def _families(categories: int) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for category in range(categories):
        groups.setdefault(family(category), []).append(category)
    return list(groups.values())


def _taken(rng: Generator, groups: list[list[int]], count: int) -> list[int]:
    """`count` categories as whole families: pairs in their usual share, the rest those without a sibling."""
    pairs = [group for group in groups if len(group) == 2]
    singles = [group for group in groups if len(group) == 1]
    needed = -(-(count - len(singles)) // 2)
    of_pairs = min(len(pairs), count // 2, max(needed, round(0.3 * count)))
    of_singles = count - 2 * of_pairs
    if of_singles > len(singles):
        raise InputError(
            f"{count} categories cannot be taken from {sum(map(len, groups))} without parting siblings: give more categories, or fewer unseen"
        )
    chosen = [pairs[k] for k in rng.permutation(len(pairs))[:of_pairs]] + [singles[k] for k in rng.permutation(len(singles))[:of_singles]]
    return sorted(category for group in chosen for category in group)
