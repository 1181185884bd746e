"""Dataset of labelled images, read one at a time, with the split (train, validation, test) of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sbirlib import html
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH

IntArray = NDArray[np.int64]
SHOWN = 12  # images in a notebook
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """n labelled images.

    modality [n]: SKETCH or PHOTO.
    category [n]: index into `categories`, -1 for none.
    instance [n]: number shared by a sketch and its photo, -1 for none.
    keys: name of each image; its path relative to `root`, if there is one.
    reader: opens an image by its position in `keys`.
    index [n]: position of each image in `keys`.
    split [n]: split of each image as an index into SPLITS; None for a dataset that has not been split.
    split_name, split_digest: name and SHA-256 of the split.
    splits: the splits published with the dataset, by name, each as in a split file.
    """

    name: str
    categories: tuple[str, ...]
    modality: IntArray
    category: IntArray
    instance: IntArray
    keys: Sequence[str]
    reader: Callable[[int], Image.Image]
    index: IntArray
    split: IntArray | None = None
    split_name: str = "none"
    split_digest: str = ""
    root: str = ""
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        *,
        categories: Sequence[str],
        modality: Any,
        category: Any,
        instance: Any,
        keys: Sequence[str],
        reader: Callable[[int], Image.Image],
        root: str = "",
    ) -> Dataset:
        """Make a dataset of all images that `reader` opens by position; modality, category and instance are [n]."""
        arrays: dict[str, Any] = {
            k: np.asarray(v, dtype=np.int64) for k, v in dict(modality=modality, category=category, instance=instance).items()
        }
        lengths = {k: len(v) for k, v in arrays.items()} | {"keys": len(keys)}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the labels of a dataset must be of one length, got {lengths}")
        return cls(name=name, categories=tuple(categories), keys=keys, reader=reader, index=np.arange(len(keys)), root=root, **arrays)

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def _repr_html_(self) -> str:
        """The counts, and a strip of images from all over the dataset."""
        rows = np.linspace(0, len(self) - 1, min(SHOWN, len(self))).astype(int).tolist()
        names = [self.categories[c] if c >= 0 else "" for c in self.category[rows]]
        return html.preformatted(self.describe()) + html.strip((self.read(i), name) for i, name in zip(rows, names, strict=True))

    def __len__(self) -> int:
        return len(self.index)

    def read(self, i: int) -> Image.Image:
        """Decode image i."""
        return self.reader(int(self.index[i]))

    @property
    def threads(self) -> int:
        """The number of threads for reading: several for files, which are decoded outside the GIL; 1 for images drawn in Python."""
        return int(getattr(self.reader, "threads", 1))

    def key(self, i: int) -> str:
        """The key of image i."""
        return self.keys[int(self.index[i])]

    def path(self, i: int) -> str:
        """The absolute path of image i; its key, if it is in no file."""
        key = self.key(i)
        return os.path.join(self.root, key) if self.root else os.path.abspath(key) if os.path.isfile(key) else key

    def subset(self, rows: Any) -> Dataset:
        """The images `rows` (a mask [n], indices [m] or a slice); categories and instances keep their numbers."""
        labels = {k: getattr(self, k)[rows] for k in ("modality", "category", "instance", "index")}
        return replace(self, **labels, split=None if self.split is None else self.split[rows])

    @property
    def sketches(self) -> Dataset:
        """All sketches."""
        return self.subset(self.modality == SKETCH)

    @property
    def photos(self) -> Dataset:
        """All photos."""
        return self.subset(self.modality == PHOTO)

    @property
    def train(self) -> Dataset:
        """The training split, see `select`."""
        return self.select("train")

    @property
    def validation(self) -> Dataset:
        """The validation split, see `select`."""
        return self.select("validation")

    @property
    def test(self) -> Dataset:
        """The test split, see `select`."""
        return self.select("test")

    def select(self, split: str) -> Dataset:
        """The images of one split ("train", "validation" or "test"), with categories and instances renumbered from 0.

        A dataset that has not been split is its own training and test split, and its validation split is empty.
        """
        if self.split is None:
            rows = np.full(len(self), split != "validation")
        else:
            rows = self.split == SPLITS.index(split)
        images = self.subset(rows)
        present = np.unique(images.category[images.category >= 0])
        category = np.where(images.category >= 0, np.searchsorted(present, images.category), -1)
        _, numbers = np.unique(images.instance[images.instance >= 0], return_inverse=True)
        instance = np.full(len(images), -1, dtype=np.int64)
        instance[images.instance >= 0] = numbers
        names = tuple(self.categories[int(c)] for c in present)
        return replace(images, categories=names, category=category.astype(np.int64), instance=instance, split=None)

    def numbered_as(self, categories: Sequence[str]) -> Dataset:
        """The same images with their categories renumbered as in `categories`, which must name all of them."""
        number = {name: i for i, name in enumerate(categories)}
        if unknown := sorted(set(self.categories) - set(number)):
            raise InputError(f"{self.name} has categories that were not trained on: {', '.join(unknown)}")
        order = np.array([number[name] for name in self.categories], dtype=np.int64)
        return replace(self, categories=tuple(categories), category=np.where(self.category >= 0, order[self.category], -1))

    @property
    def instances(self) -> int:
        """The largest instance number plus one."""
        return int(self.instance.max(initial=-1)) + 1

    @property
    def digest(self) -> str:
        """SHA-256 of the split; of a dataset that is not split, of its keys and labels."""
        if self.split_digest:
            return self.split_digest
        columns = (self.modality.tolist(), self.category.tolist(), self.instance.tolist())
        lines = sorted("\t".join(map(str, (self.key(i), *row))) for i, row in enumerate(zip(*columns, strict=True)))
        return hashlib.sha256("\n".join([*self.categories, *lines]).encode()).hexdigest()

    def describe(self) -> str:
        """One line with the name, the counts and the split."""
        sketches, photos = int((self.modality == SKETCH).sum()), int((self.modality == PHOTO).sum())
        split = f"; split {self.split_name} ({self.split_digest[:12]})" if self.split_digest else ""
        return f"{self.name}: {len(self.categories)} categories, {sketches} sketches, {photos} photos{split}"
