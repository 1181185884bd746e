"""Dividing a dataset into train, validation and test, under a name and a digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sbirlib.data.dataset import ROLES, Dataset, IntArray
from sbirlib.data.split_file import from_entry, from_file
from sbirlib.data.split_rules import LEFT_OUT, TRAIN, VALIDATION, by_class, by_file_name, by_seed
from sbirlib.errors import InputError

FILE = re.compile(r"(.+\.json)(?::(.*))?")
FILE_NAMES = re.compile(r"classification(?::train=([1-9]\d*))?")
ALL_SEEN = "+validation"
SEED = re.compile(r"seed:(\d+)(?::unseen=(\d+))?")


def split(dataset: Dataset, spec: str | Sequence[str] | int, *, seed: int = 0) -> Dataset:
    """The dataset with a role for each image, and the split's name and digest; what the split leaves out is dropped.

    `spec` is one of the dataset's own (`zeroshot1_sake25`), an entry of a file (`splits.json:qdphoto/zero_shot_15`), unseen classes
    (`["moon", "sun"]` or `"moon,sun"`), a seed that draws them (`3`, `"seed:3"`, a fifth of the classes; `"seed:3:unseen=15"`), or
    `"classification"`: the first 70 % of each class's file names train, or `"classification:train=4"` the first 4 of these. Unseen
    classes are the test; validation is always carved from the seen: as the file says, else a tenth, by `seed`. With `+validation` after
    any of these, such as `"seed:3+validation"`, all that is seen trains, once everything has been chosen.

    >>> split(dataset, "seed:3:unseen=15").describe()  # doctest: +SKIP
    'qdphoto: 61 categories, 1516 sketches, 5039 photos; split seed:3:unseen=15 (9c1e...)'
    """
    if isinstance(spec, int):
        spec = f"seed:{spec}"
    if isinstance(spec, str) and spec.endswith(ALL_SEEN):
        parts = split(dataset, spec.removesuffix(ALL_SEEN), seed=seed)
        assert parts.role is not None
        return _named(parts, np.where(parts.role == VALIDATION, TRAIN, parts.role), parts.split_name + ALL_SEEN)
    if not isinstance(spec, str):
        unseen = list(spec)
    elif spec in dataset.splits:
        name = f"{dataset.name}/{spec}"
        return _divided(dataset, from_entry(dataset, dataset.splits[spec], name, seed=seed), name)
    elif in_file := FILE.fullmatch(spec):
        return _divided(dataset, from_file(dataset, Path(in_file[1]).expanduser(), in_file[2] or "", seed=seed), in_file[2])
    elif by_names := FILE_NAMES.fullmatch(spec):
        return _divided(dataset, by_file_name(dataset, most=None if by_names[1] is None else int(by_names[1])), spec)
    elif seeded := SEED.fullmatch(spec):
        seed = int(seeded[1])
        unseen = by_seed(dataset, seed, None if seeded[2] is None else int(seeded[2]))
        return _divided(dataset, by_class(dataset, unseen, seed=seed), f"seed:{seed}:unseen={len(unseen)}")
    else:
        unseen = [name.strip() for name in spec.split(",")]
    try:
        role = by_class(dataset, unseen, seed=seed)
    except InputError as error:
        own = f"; {dataset.name} comes with the splits {', '.join(dataset.splits)}" if dataset.splits else ""
        raise InputError(
            f"{error}{own}. A split is FILE.json:ENTRY, names of unseen classes, seed:N[:unseen=COUNT], or classification[:train=COUNT]"
        ) from error
    return _divided(dataset, role, f"unseen={','.join(sorted(set(unseen)))}")


def _divided(dataset: Dataset, role: IntArray, name: str) -> Dataset:
    kept = dataset.subset(role != LEFT_OUT)
    role = role[role != LEFT_OUT]
    for part, count in zip(ROLES, np.bincount(role, minlength=len(ROLES)), strict=True):
        if not count:
            raise InputError(
                f"the split {name} of {dataset.name} ({len(dataset.categories)} classes) leaves nothing for {part}: training, validation and "
                "test each need at least one class or photo"
            )
    return _named(kept, role, name)


def _named(dataset: Dataset, role: IntArray, name: str) -> Dataset:
    lines = sorted(f"{dataset.key(i)}\t{ROLES[r]}" for i, r in enumerate(role.tolist()))
    digest = hashlib.sha256("\n".join([name, *lines]).encode()).hexdigest()
    return replace(dataset, role=role, split_name=name, split_digest=digest)
