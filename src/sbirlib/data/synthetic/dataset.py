"""Synthetic `Dataset`, split by category or by instance."""

import hashlib
import json
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sbirlib.data.dataset import Dataset, IntArray
from sbirlib.data.synthetic.renderer import Synthetic
from sbirlib.data.synthetic.splits import TRAIN, assign_splits
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH

VERSION = 1  # raised with any change of an image


def synthetic(
    *,
    categories: int = 50,
    unseen: int = 10,
    instances: int = 40,
    sketches: int = 2,
    size: int = 64,
    seed: int = 0,
    difficulty: float = 0.5,
    disjoint: str = "category",
    distractors: bool = True,
    turn: bool = True,
    style_seed: int | None = None,
) -> Dataset:
    """Make the synthetic dataset: one photo of each instance of each category, and `sketches` sketches of each photo.

    categories, unseen: number of categories, and how many of them are the test split.
    instances: number of instances of each category.
    size: side of an image in pixels.
    seed: seed of shapes and split; style_seed (default `seed`) is the seed of everything else.
    difficulty: mean abstraction of the sketches, in [0, 1].
    disjoint: "category" tests on the unseen categories; "instance" has every category in every split and tests on the share
        unseen / categories of its instances; "half" is "category" with half of the unseen instances in training, an upper bound.
    distractors, turn: False leaves out the background figures, or the rotation.

    Raises InputError for values out of bounds.

    >>> data = synthetic(categories=10, unseen=2, instances=3, size=32)
    >>> len(data.photos), len(data.sketches), data.read(0).size
    (30, 60, (32, 32))
    """
    style = seed if style_seed is None else style_seed
    numbers = dict(categories=categories, unseen=unseen, instances=instances, sketches=sketches, size=size, seed=seed, style_seed=style)
    _check(numbers, difficulty)
    assignment, trained = _split(categories=categories, unseen=unseen, instances=instances, seed=seed, disjoint=disjoint)
    reader = Synthetic(
        categories=categories,
        instances=instances,
        sketches=sketches,
        size=size,
        seed=seed,
        difficulty=difficulty,
        extras=trained if distractors else (),
        turn=turn,
        style_seed=style,
    )
    arguments = numbers | dict(version=VERSION, difficulty=difficulty, disjoint=disjoint, distractors=distractors, turn=turn)
    digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
    dataset = _dataset(reader)
    return replace(dataset, split=assignment[dataset.instance], split_name=f"synthetic-{disjoint}-{unseen}", split_digest=digest)


def _split(*, disjoint: str, instances: int, **counts: int) -> tuple[IntArray, tuple[int, ...]]:
    """The split of every instance, and the categories that no split calls unseen: the only ones in the background of photos."""
    by_category = "category" if disjoint == "half" else disjoint
    assignment, category_split = (assign_splits(**counts, instances=instances, disjoint=by) for by in (disjoint, by_category))
    return assignment, tuple(np.unique(np.flatnonzero(category_split == TRAIN) // instances).tolist())


def _dataset(reader: Synthetic) -> Dataset:
    instance = np.array([reader.instance(i) for i in range(len(reader))], dtype=np.int64)
    names = [f"cat{c:02d}" for c in range(reader.categories)]
    return Dataset.of(
        "synthetic",
        categories=names,
        modality=np.where(np.arange(len(reader)) < reader.photos, PHOTO, SKETCH),
        category=instance // reader.instances,
        instance=instance,
        keys=[_key(reader, i, names) for i in range(len(reader))],
        reader=reader,
    )


def abstraction(dataset: Dataset) -> NDArray[np.float64]:
    """The abstraction of each image of a synthetic dataset, [n] in [0, 1]; 0 for photos."""
    if not isinstance(dataset.reader, Synthetic):
        raise InputError(f"only the synthetic set records abstraction, and this is {dataset.name!r}: use synthetic(...) or a subset of it")
    return np.array([dataset.reader.abstraction(int(i)) for i in dataset.index])


def _key(reader: Synthetic, i: int, names: list[str]) -> str:
    category, k = divmod(reader.instance(i), reader.instances)
    if i < reader.photos:
        return f"photo/{names[category]}/{k:04d}"
    return f"sketch/{names[category]}/{k:04d}-{(i - reader.photos) % reader.sketches + 1}"


def _check(numbers: dict[str, int], difficulty: float) -> None:
    """Check that every number is within its bounds."""
    bounds = dict(
        categories=(5, 10_000), instances=(1, 100_000), sketches=(1, 1000), size=(16, 1024), seed=(0, 2**63), style_seed=(0, 2**63)
    )
    bounds["unseen"] = (1, max(numbers["categories"] - 4, 1))
    for name, (low, high) in bounds.items():
        value = numbers[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{name}={value!r} was given to the synthetic set: a whole number from {low} to {high} was expected")
    if not 0 <= difficulty <= 1:
        raise InputError(
            f"difficulty={difficulty!r} was given to the synthetic set: a number from 0 (traced) to 1 (very free) was expected"
        )
