"""Synthetic `Dataset`, split by category or by instance."""

import hashlib
import json
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from sbirlib.data.dataset import Dataset, IntArray
from sbirlib.data.synthetic.renderer import Synthetic
from sbirlib.data.synthetic.splits import TRAIN, Disjoint, assign_splits
from sbirlib.data.synthetic.worlds import WORLDS
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.options import hold

VERSION = 1  # raised with any change of an image


def synthetic(
    *,
    categories: Annotated[int, Interval(ge=5, le=10_000)] = 50,
    unseen: Annotated[int, Ge(1)] = 10,
    instances: Annotated[int, Interval(ge=1, le=100_000)] = 40,
    sketches: Annotated[int, Interval(ge=1, le=1000)] = 2,
    size: Annotated[int, Interval(ge=16, le=1024)] = 64,
    seed: Annotated[int, Ge(0)] = 0,
    difficulty: Annotated[float, Interval(ge=0, le=1)] = 0.5,
    disjoint: Disjoint = "category",
    distractors: bool = True,
    turn: bool = True,
    style_seed: Annotated[int, Ge(0)] | None = None,
    world: Literal["plain", "traits", "parts", "style", "imbalance"] = "plain",
    solution: bool = False,
) -> Dataset:
    """Make the synthetic dataset: one photo of each instance of each category, and `sketches` sketches of each photo.

    `disjoint` "category" tests on the unseen categories; "instance" has every category in every split and tests on the share
    unseen / categories of its instances; "half" is "category" with half of the unseen instances in training, an upper bound.

    Args:
        categories: categories in all
        unseen: categories of the test split; at least four others remain
        instances: instances of each category, each with one photo
        sketches: sketches of each photo
        size: side of an image, in pixels
        seed: seed of shapes and split
        difficulty: mean abstraction of the sketches, from 0 (traced) to 1 (very free)
        disjoint: unit of which splits share none: "category", "instance", or "half" for half of the unseen instances
        distractors: figures in the background of photos
        turn: random rotation of every image
        style_seed: seed of everything but shapes and split; `seed` where none
        world: variant in which one idea must matter; "plain" is the set itself
        solution: render a world's images without its difficulty, to see how much there is to gain

    >>> data = synthetic(categories=10, unseen=2, instances=3, size=32)
    >>> len(data.photos), len(data.sketches), data.read(0).size
    (30, 60, (32, 32))
    """
    numbers: dict[str, Any] = dict(categories=categories, instances=instances, sketches=sketches, size=size, seed=seed)
    others: dict[str, Any] = dict(unseen=unseen, difficulty=difficulty, disjoint=disjoint, distractors=distractors, turn=turn)
    hold(synthetic, numbers | others | dict(world=world, solution=solution, style_seed=style_seed))
    _check(categories, unseen, world, solution)
    style = seed if style_seed is None else style_seed
    assignment, trained = _split(categories=categories, unseen=unseen, instances=instances, seed=seed, disjoint=disjoint)
    common = numbers | dict(difficulty=difficulty, extras=trained if distractors else (), turn=turn, style_seed=style)
    dataset = _dataset(Synthetic(**common) if world == "plain" else WORLDS[world](**common, trained=trained, solution=solution))
    digest = _digest(numbers | others | dict(style_seed=style) | ({} if world == "plain" else dict(world=world, solution=solution)))
    return replace(dataset, split=assignment[dataset.instance], split_name=f"synthetic-{disjoint}-{unseen}", split_digest=digest)


def _check(categories: int, unseen: int, world: str, solution: bool) -> None:
    if unseen > categories - 4:
        raise InputError(f"unseen={unseen} of categories={categories} leave fewer than four to train and validate on: take fewer")
    if solution and world == "plain":
        raise InputError("solution=True is of a world, and world='plain' has none: choose a world, such as 'traits'")


def _digest(arguments: dict[str, Any]) -> str:
    """SHA-256 of the version and the arguments."""
    return hashlib.sha256(json.dumps(arguments | dict(version=VERSION), sort_keys=True).encode()).hexdigest()


def _split(*, disjoint: Disjoint, instances: int, **counts: int) -> tuple[IntArray, tuple[int, ...]]:
    """The split of every instance, and the categories that no split calls unseen: the only ones in the background of photos."""
    by_category: Disjoint = "category" if disjoint == "half" else disjoint
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
