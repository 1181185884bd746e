"""Split rules: functions that assign each image of a dataset to a split, as an index into SPLITS, or to LEFT_OUT."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from sbirlib.data.dataset import SPLITS, Dataset, IntArray
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import PHOTO, SKETCH

TRAIN, VALIDATION, TEST = range(len(SPLITS))
LEFT_OUT, UNKNOWN = -1, -2
T = TypeVar("T")
VALIDATION_SHARE = 0.1


def by_class(dataset: Dataset, unseen: Collection[str], validation: Collection[str] = (), *, seed: int = 0) -> IntArray:
    """Split [N] by class: `unseen` classes are the test split, `validation` classes (default: a tenth of the seen, drawn by seed) the
    validation split, the others the training split."""
    for name in [*unseen, *validation]:
        if name not in dataset.categories:
            raise InputError(f"{dataset.name} has no class {name!r}{nearest(name, dataset.categories)}")
    if both := sorted(set(unseen) & set(validation)):
        raise InputError(f"validation classes must be seen ones, but these are unseen: {', '.join(both)}")
    validation = validation or carve(sorted(set(dataset.categories) - set(unseen)), seed)
    by_category = [TEST if c in unseen else VALIDATION if c in validation else TRAIN for c in dataset.categories]
    return np.array(by_category, dtype=np.int64)[dataset.category]


def by_seed(dataset: Dataset, seed: int, unseen: int | None = None) -> list[str]:
    """Names of `unseen` classes (default: a fifth of all), drawn by seed."""
    count = max(1, round(0.2 * len(dataset.categories))) if unseen is None else unseen
    return sorted(np.random.default_rng(seed).permutation(sorted(dataset.categories))[:count].tolist())


def by_fold(dataset: Dataset, fold: int, of: int) -> IntArray:
    """Split [N] by one of `of` folds: this fold is the test split, the next the validation split, the others the training split.

    Folds are of classes. Where a split of the dataset already has a class in two of its splits, they are of instances, each with its images,
    or of the images of each class where there are no instances; without such a split they are of instances where there are fewer classes than
    folds. All are dealt from one shuffle, so that each is in the test split of one fold.
    """
    units, kind = _units(dataset, of)
    if len(names := np.unique(units[units >= 0])) < of or not 0 <= fold < of or of < 3:
        raise InputError(
            f"fold:{fold}:of={of} of {dataset.name}: expected a fold from 0 to {of - 1}, and 3 folds or more, but no more than its "
            f"{len(names)} {kind}"
        )
    dealt = np.random.default_rng(0).permutation(names)
    if kind == "images":  # as many of each class in each fold
        dealt = dealt[np.argsort(dataset.category[dealt], kind="stable")]
    position = np.zeros(int(names.max()) + 1, dtype=np.int64)
    position[dealt] = np.arange(len(dealt)) % of
    by_position = np.full(of, TRAIN)
    by_position[fold], by_position[(fold + 1) % of] = TEST, VALIDATION
    split: IntArray = np.where(units >= 0, by_position[position[units]], LEFT_OUT)
    return split


def _units(dataset: Dataset, of: int) -> tuple[IntArray, str]:
    """What folds are dealt of, as a number [N] for each image, and its name."""
    instances = bool((dataset.instance >= 0).any())
    if dataset.split is None:
        return (dataset.instance, "instances") if instances and len(dataset.categories) < of else (dataset.category, "classes")
    pairs = set(zip(dataset.category.tolist(), dataset.split.tolist(), strict=True))
    if len(pairs) == len({category for category, _ in pairs}):
        return dataset.category, "classes"
    return (dataset.instance, "instances") if instances else (np.arange(len(dataset)), "images")


def by_file_name(dataset: Dataset, most: int | None = None) -> IntArray:
    """Split [N] within each class and modality, file names sorted: floor(0.7 n) train, the last fifth of these (at least one) validate,
    the rest test. With `most`, only the first `most` files of the training split are kept."""
    split = np.full(len(dataset), TEST)
    for modality in (SKETCH, PHOTO):
        for category, name in enumerate(dataset.categories):
            rows = np.flatnonzero((dataset.modality == modality) & (dataset.category == category))
            if 0 < len(rows) < 3:
                raise InputError(f"the classification split needs 3 images of each class and modality; {name!r} has {len(rows)}")
            rows = np.array(sorted(rows, key=lambda row: dataset.key(int(row)).rpartition("/")[2]), dtype=np.int64)
            train = 7 * len(rows) // 10
            split[rows[:train]] = TRAIN
            first = train - max(1, train // 5)
            split[rows[first:train]] = VALIDATION
            if most is not None:
                split[rows[most:first]] = LEFT_OUT
    return split


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
    """Split [N] by photo (stem, file name or key); each sketch follows its photo. Default validation: a tenth of the training photos."""
    photo, sketch = _look_up(dataset, PHOTO), _look_up(dataset, SKETCH)
    train_rows = photo(train)
    validation_rows = photo(validation) or carve(train_rows, seed)
    split = np.full(len(dataset), UNKNOWN)
    for rows, value in (
        (set(train_rows) - set(validation_rows), TRAIN),
        (validation_rows, VALIDATION),
        (photo(test), TEST),
        (photo(left_out_photos), LEFT_OUT),
    ):
        for row in rows:
            if split[row] != UNKNOWN:
                raise InputError(f"{dataset.key(row)} is in two lists of the split; keep it in one")
            split[row] = value
    of_instance: dict[int, int] = {}
    for row in np.flatnonzero((dataset.modality == PHOTO) & (dataset.instance >= 0)).tolist():
        if of_instance.setdefault(int(dataset.instance[row]), int(split[row])) != split[row]:
            raise InputError(f"{dataset.key(row)} and another photo of the same instance are in different lists of the split")
    for row in np.flatnonzero(dataset.modality == SKETCH).tolist():
        split[row] = of_instance.get(int(dataset.instance[row]), UNKNOWN)
    split[sketch(left_out_sketches)] = LEFT_OUT
    if (unassigned := np.flatnonzero(split == UNKNOWN)).size:
        raise InputError(
            f"{len(unassigned)} images of {dataset.name} are in no list of the split, such as {dataset.key(unassigned[0])}: list each photo, "
            "and give each sketch a photo (see Dataset.instance) or list it as left out"
        )
    return split


def carve(names: Sequence[T], seed: int) -> list[T]:
    """A tenth of `names`, at least one, drawn by seed for validation."""
    count = max(1, round(VALIDATION_SHARE * len(names)))
    return [names[i] for i in sorted(np.random.default_rng(seed).permutation(len(names))[:count])]


def _look_up(dataset: Dataset, modality: int) -> Callable[[Iterable[str]], list[int]]:
    """Return a function from names (stem, file name or key) to sorted rows."""
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
