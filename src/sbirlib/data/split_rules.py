"""Who trains and who is tested: the rules that give each image of a dataset its role, as an index into ROLES, or LEFT_OUT."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from sbirlib.data.dataset import ROLES, Dataset, IntArray
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import PHOTO, SKETCH

TRAIN, VALIDATION, TEST = range(len(ROLES))
LEFT_OUT, UNKNOWN = -1, -2
T = TypeVar("T")
VALIDATION_SHARE = 0.1


def by_class(dataset: Dataset, unseen: Collection[str], validation: Collection[str] = (), *, seed: int = 0) -> IntArray:
    """Unseen classes are tested, validation classes validate (a tenth of the seen, by the seed, unless named), the others train."""
    for name in [*unseen, *validation]:
        if name not in dataset.categories:
            raise InputError(f"{dataset.name} has no class {name!r}{nearest(name, dataset.categories)}")
    if both := sorted(set(unseen) & set(validation)):
        raise InputError(f"validation classes must be seen ones, but these are unseen: {', '.join(both)}")
    seen = sorted(set(dataset.categories) - set(unseen))
    validation = validation or carve(seen, seed)
    role = [TEST if c in unseen else VALIDATION if c in validation else TRAIN for c in dataset.categories]
    return np.array(role, dtype=np.int64)[dataset.category]


def by_seed(dataset: Dataset, seed: int, unseen: int | None = None) -> list[str]:
    """Names of classes drawn to be unseen: a fifth of them unless told how many."""
    count = max(1, round(0.2 * len(dataset.categories))) if unseen is None else unseen
    return sorted(np.random.default_rng(seed).permutation(sorted(dataset.categories))[:count].tolist())


def by_file_name(dataset: Dataset, most: int | None = None) -> IntArray:
    """Per class and modality, file names sorted: floor(0.7 n) train, the last fifth of them (at least one) validates, the rest test.

    Of those that train only the first `most` are kept, if that is said.
    """
    role = np.full(len(dataset), TEST)
    for modality in (SKETCH, PHOTO):
        for category, name in enumerate(dataset.categories):
            rows = np.flatnonzero((dataset.modality == modality) & (dataset.category == category))
            if 0 < len(rows) < 3:
                raise InputError(f"the classification split needs 3 images of each class and modality; {name!r} has {len(rows)}")
            rows = np.array(sorted(rows, key=lambda row: dataset.key(int(row)).rpartition("/")[2]), dtype=np.int64)
            train = 7 * len(rows) // 10
            role[rows[:train]] = TRAIN
            first = train - max(1, train // 5)
            role[rows[first:train]] = VALIDATION
            if most is not None:
                role[rows[most:first]] = LEFT_OUT
    return role


def by_photo(
    dataset: Dataset,
    *,
    train: Iterable[str],
    test: Iterable[str],
    validation: Iterable[str] = (),
    left_out_photos: Iterable[str] = (),
    left_out_sketches: Iterable[str] = (),
    seed: int = 0,
) -> IntArray:
    """Photos by name (stem, file name or key), and each sketch with its photo. A tenth of the training photos validates unless named."""
    photo, sketch = _named(dataset, PHOTO), _named(dataset, SKETCH)
    trained = photo(train)
    validated = photo(validation) or carve(trained, seed)
    role = np.full(len(dataset), UNKNOWN)
    for rows, part in (
        (set(trained) - set(validated), TRAIN),
        (validated, VALIDATION),
        (photo(test), TEST),
        (photo(left_out_photos), LEFT_OUT),
    ):
        for row in rows:
            if role[row] != UNKNOWN:
                raise InputError(f"{dataset.key(row)} is in two parts of the split; keep it in one")
            role[row] = part
    owner: dict[int, int] = {}
    for row in np.flatnonzero((dataset.modality == PHOTO) & (dataset.instance >= 0)).tolist():
        if owner.setdefault(int(dataset.instance[row]), int(role[row])) != role[row]:
            raise InputError(f"{dataset.key(row)} and another photo of the same instance are in different parts of the split")
    for row in np.flatnonzero(dataset.modality == SKETCH).tolist():
        role[row] = owner.get(int(dataset.instance[row]), UNKNOWN)
    role[sketch(left_out_sketches)] = LEFT_OUT
    if (lost := np.flatnonzero(role == UNKNOWN)).size:
        raise InputError(
            f"{len(lost)} images of {dataset.name} are in no part of the split, such as {dataset.key(lost[0])}: list each photo, and give "
            "each sketch a photo (see Dataset.instance) or list it as left out"
        )
    return role


def carve(names: Sequence[T], seed: int) -> list[T]:
    """The tenth of `names`, at least one, that the seed draws for validation."""
    count = max(1, round(VALIDATION_SHARE * len(names)))
    return [names[i] for i in sorted(np.random.default_rng(seed).permutation(len(names))[:count])]


def _named(dataset: Dataset, modality: int) -> Callable[[Iterable[str]], list[int]]:
    """A look-up of rows by stem, file name or key."""
    rows: dict[str, set[int]] = {}
    for row in np.flatnonzero(dataset.modality == modality).tolist():
        key = PurePosixPath(dataset.key(row))
        for name in (str(key), key.name, key.stem):
            rows.setdefault(name, set()).add(row)

    def look_up(names: Iterable[str]) -> list[int]:
        for name in names:
            if name not in rows:
                raise InputError(f"{dataset.name} has no {'photo' if modality == PHOTO else 'sketch'} {name!r}{nearest(name, rows)}")
            if len(rows[name]) > 1:
                keys = ", ".join(sorted(dataset.key(row) for row in rows[name]))
                raise InputError(f"{name!r} names several images ({keys}): name them by their whole keys")
        return sorted({row for name in names for row in rows[name]})

    return look_up
