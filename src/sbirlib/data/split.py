"""Splitting of a dataset into train, validation and test, with a name and a digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sbirlib.data.dataset import SPLITS, Dataset, IntArray
from sbirlib.data.split_file import from_entry, from_file
from sbirlib.data.split_rules import LEFT_OUT, TEST, TRAIN, VALIDATION, by_class, by_file_name, by_fold, by_seed
from sbirlib.errors import InputError

FILE = re.compile(r"(.+\.json)(?::(.*))?")
FILE_NAMES = re.compile(r"classification(?::train=([1-9]\d*))?")
ALL_SEEN = "+validation"
SEEN = "+seen"
FOLD = re.compile(r"(?:(.+)\+)?fold:(\d+):of=(\d+)")
SEED = re.compile(r"seed:(\d+)(?::unseen=(\d+))?")


def split(dataset: Dataset, spec: str | Sequence[str] | int, *, seed: int = 0) -> Dataset:
    """Assign every image to a split, with the split's name and digest; images that the split leaves out are dropped.

    `spec` is one of:
    - a split of the dataset itself: `zeroshot1_sake25`;
    - an entry of a file: `splits.json:qdphoto/zero_shot_15`;
    - unseen classes: `["moon", "sun"]` or `"moon,sun"`;
    - a seed that draws a fifth of the classes, or a given number, as unseen: `3`, `"seed:3"`, `"seed:3:unseen=15"`;
    - `"classification"`: the first 70 % of each class's file names train; `"classification:train=4"`: the first 4 of these;
    - one of N folds of the classes, each of which is unseen once: `"fold:2:of=5"`; of what another split keeps, by classes,
      instances or images as that split is: `splits.json:shoe304/instance+fold:2:of=5`;
    - one of N folds of another split without its test split: `splits.json:qdphoto/zero_shot_15+seen+fold:2:of=4`.

    Unseen classes are the test split. The validation split is carved from the seen classes: as the file says, else a tenth, by `seed`.
    With `+validation` appended, such as `"seed:3+validation"`, the validation split joins the training split once all is assigned.

    >>> split(dataset, "seed:3:unseen=2").describe()
    'my-data: 6 categories, 36 sketches, 36 photos; split seed:3:unseen=2 (...)'
    """
    if isinstance(spec, int):
        spec = f"seed:{spec}"
    if isinstance(spec, str) and spec.endswith(ALL_SEEN):
        data = split(dataset, spec.removesuffix(ALL_SEEN), seed=seed)
        assert data.split is not None
        return _with_digest(data, np.where(data.split == VALIDATION, TRAIN, data.split), data.split_name + ALL_SEEN)
    if isinstance(spec, str) and (fold := FOLD.fullmatch(spec)):
        return _fold(dataset, fold[1], int(fold[2]), int(fold[3]), seed=seed)
    if not isinstance(spec, str):
        unseen = list(spec)
    elif spec in dataset.splits:
        name = f"{dataset.name}/{spec}"
        return _assigned(dataset, from_entry(dataset, dataset.splits[spec], name, seed=seed), name)
    elif file_entry := FILE.fullmatch(spec):
        return _assigned(dataset, from_file(dataset, Path(file_entry[1]).expanduser(), file_entry[2] or "", seed=seed), file_entry[2])
    elif names := FILE_NAMES.fullmatch(spec):
        return _assigned(dataset, by_file_name(dataset, most=None if names[1] is None else int(names[1])), spec)
    elif draw := SEED.fullmatch(spec):
        seed = int(draw[1])
        unseen = by_seed(dataset, seed, None if draw[2] is None else int(draw[2]))
        return _assigned(dataset, by_class(dataset, unseen, seed=seed), f"seed:{seed}:unseen={len(unseen)}")
    else:
        unseen = [name.strip() for name in spec.split(",")]
    try:
        assignment = by_class(dataset, unseen, seed=seed)
    except InputError as error:
        own = f"; {dataset.name} comes with the splits {', '.join(dataset.splits)}" if dataset.splits else ""
        raise InputError(
            f"{error}{own}. A split is FILE.json:ENTRY, names of unseen classes, seed:N[:unseen=COUNT], fold:K:of=N, or classification[:train=COUNT]"
        ) from error
    return _assigned(dataset, assignment, f"unseen={','.join(sorted(set(unseen)))}")


def _fold(dataset: Dataset, base: str | None, fold: int, of: int, *, seed: int) -> Dataset:
    data = split(dataset, base.removesuffix(SEEN), seed=seed) if base else replace(dataset, split=None)
    name = f"{data.split_name}+" * bool(base)
    if base and base.endswith(SEEN):
        data, name = data.subset(data.split != TEST), name.removesuffix("+") + f"{SEEN}+"
    return _assigned(data, by_fold(data, fold, of), f"{name}fold:{fold}:of={of}")


def _assigned(dataset: Dataset, assignment: IntArray, name: str) -> Dataset:
    data = dataset.subset(assignment != LEFT_OUT)
    assignment = assignment[assignment != LEFT_OUT]
    for split_, count in zip(SPLITS, np.bincount(assignment, minlength=len(SPLITS)), strict=True):
        if not count:
            raise InputError(
                f"the split {name} of {dataset.name} ({len(dataset.categories)} classes) leaves nothing for {split_}: training, validation and "
                "test each need at least one class or photo"
            )
    return _with_digest(data, assignment, name)


def _with_digest(dataset: Dataset, assignment: IntArray, name: str) -> Dataset:
    lines = sorted(f"{dataset.key(i)}\t{SPLITS[s]}" for i, s in enumerate(assignment.tolist()))
    digest = hashlib.sha256("\n".join([name, *lines]).encode()).hexdigest()
    return replace(dataset, split=assignment, split_name=name, split_digest=digest)
