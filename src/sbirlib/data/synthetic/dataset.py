"""The synthetic set as a `Dataset`, split into seen and unseen categories, or instances."""

import hashlib
import json
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sbirlib.data.dataset import Dataset
from sbirlib.data.synthetic.renderer import Synthetic
from sbirlib.data.synthetic.splits import TRAIN, roles
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH

VERSION = 1  # a change of any picture is a new version


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
    """`categories` kinds of objects, a photo of each of their `instances`, and `sketches` of every photo; `unseen` categories are the test's.

    `difficulty` in [0, 1] is the mean abstraction of the sketches. With disjoint="instance" every category is in every role, and the share
    unseen / categories of its instances is the test's; with disjoint="half" half of the instances of the unseen categories train: what could
    be reached if nothing were unseen. `distractors` and `turn` may be left away to see what they cost; `style_seed` (by
    default `seed`) changes everything but shapes. Raises InputError for values outside their bounds.

    >>> data = synthetic(categories=10, unseen=2, instances=3, size=32)
    >>> len(data.photos), len(data.sketches), data.read(0).size
    (30, 60, (32, 32))
    """
    style = seed if style_seed is None else style_seed
    given = dict(categories=categories, unseen=unseen, instances=instances, sketches=sketches, size=size, seed=seed, style_seed=style)
    _check(given, difficulty)
    counts = dict(categories=categories, unseen=unseen, instances=instances, seed=seed)
    role, seen = (roles(**counts, disjoint=by) for by in (disjoint, "category" if disjoint == "half" else disjoint))
    trained = np.unique(np.flatnonzero(seen == TRAIN) // instances)  # no unseen category stands in any background
    reader = Synthetic(
        categories=categories,
        instances=instances,
        sketches=sketches,
        size=size,
        seed=seed,
        difficulty=difficulty,
        extras=tuple(trained.tolist()) if distractors else (),
        turn=turn,
        style_seed=style,
    )
    instance = np.array([reader.instance(i) for i in range(len(reader))], dtype=np.int64)
    names = [f"cat{c:02d}" for c in range(categories)]
    dataset = Dataset.of(
        "synthetic",
        categories=names,
        modality=np.where(np.arange(len(reader)) < reader.photos, PHOTO, SKETCH),
        category=instance // instances,
        instance=instance,
        keys=[_key(reader, i, names) for i in range(len(reader))],
        reader=reader,
    )
    arguments = given | dict(version=VERSION, difficulty=difficulty, disjoint=disjoint, distractors=distractors, turn=turn)
    digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
    return replace(dataset, role=role[instance], split_name=f"synthetic-{disjoint}-{unseen}", split_digest=digest)


def abstraction(dataset: Dataset) -> NDArray[np.float64]:
    """How freely each image of a synthetic dataset was drawn, [n] in [0, 1]; 0 for photos."""
    if not isinstance(dataset.reader, Synthetic):
        raise InputError(f"only the synthetic set records abstraction, and this is {dataset.name!r}: use synthetic(...) or a part of it")
    return np.array([dataset.reader.abstraction(int(i)) for i in dataset.index])


def _key(reader: Synthetic, i: int, names: list[str]) -> str:
    category, k = divmod(reader.instance(i), reader.instances)
    if i < reader.photos:
        return f"photo/{names[category]}/{k:04d}"
    return f"sketch/{names[category]}/{k:04d}-{(i - reader.photos) % reader.sketches + 1}"


def _check(given: dict[str, int], difficulty: float) -> None:
    """Every number within its bounds."""
    bounds = dict(
        categories=(5, 10_000), instances=(1, 100_000), sketches=(1, 1000), size=(16, 1024), seed=(0, 2**63), style_seed=(0, 2**63)
    )
    bounds["unseen"] = (1, max(given["categories"] - 4, 1))
    for name, (low, high) in bounds.items():
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{name}={value!r} was given to the synthetic set: a whole number from {low} to {high} was expected")
    if not 0 <= difficulty <= 1:
        raise InputError(
            f"difficulty={difficulty!r} was given to the synthetic set: a number from 0 (traced) to 1 (very free) was expected"
        )
