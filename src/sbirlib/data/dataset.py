"""A dataset: labelled images that are read one at a time, and the part each plays in an experiment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH

IntArray = NDArray[np.int64]
ROLES = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """n images: `modality` (SKETCH or PHOTO), `category` (an index into `categories`) and `instance` (-1: none), each [n].

    A sketch and its photo share an instance. `keys` names each image as a person would find it (a path relative to `root`, where
    there is one); `reader` opens one by its place in `keys`, which is `index[i]`. `role` [n] is an index into ROLES, or None where the
    dataset has not been split. `splits` are those published with it, by name, each as in a split file.
    """

    name: str
    categories: tuple[str, ...]
    modality: IntArray
    category: IntArray
    instance: IntArray
    keys: Sequence[str]
    reader: Callable[[int], Image.Image]
    index: IntArray
    role: IntArray | None = None
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
        """A dataset of all images that `reader` can open by position."""
        arrays: dict[str, Any] = {
            k: np.asarray(v, dtype=np.int64) for k, v in dict(modality=modality, category=category, instance=instance).items()
        }
        lengths = {k: len(v) for k, v in arrays.items()} | {"keys": len(keys)}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the labels of a dataset must be of one length, got {lengths}")
        return cls(name=name, categories=tuple(categories), keys=keys, reader=reader, index=np.arange(len(keys)), root=root, **arrays)

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def __len__(self) -> int:
        return len(self.index)

    def read(self, i: int) -> Image.Image:
        return self.reader(int(self.index[i]))

    @property
    def threads(self) -> int:
        """How many threads read faster than one: several for files, which are decoded outside the interpreter's lock; 1 for what Python draws."""
        return int(getattr(self.reader, "threads", 1))

    def key(self, i: int) -> str:
        return self.keys[int(self.index[i])]

    def path(self, i: int) -> str:
        """Where the image is, from anywhere on this machine; its key, where it is in no file."""
        key = self.key(i)
        return os.path.join(self.root, key) if self.root else os.path.abspath(key) if os.path.isfile(key) else key

    def subset(self, rows: Any) -> Dataset:
        """The chosen rows (a mask or indices), with categories and instances numbered as before."""
        taken = {k: getattr(self, k)[rows] for k in ("modality", "category", "instance", "index")}
        return replace(self, **taken, role=None if self.role is None else self.role[rows])

    @property
    def sketches(self) -> Dataset:
        return self.subset(self.modality == SKETCH)

    @property
    def photos(self) -> Dataset:
        return self.subset(self.modality == PHOTO)

    @property
    def train(self) -> Dataset:
        return self.part("train")

    @property
    def validation(self) -> Dataset:
        return self.part("validation")

    @property
    def test(self) -> Dataset:
        return self.part("test")

    def part(self, role: str) -> Dataset:
        """The images of one role, its categories and instances numbered from 0. A dataset without a split is all of it in any role
        but validation, which is then empty."""
        if self.role is None:
            rows = np.full(len(self), role != "validation")
        else:
            rows = self.role == ROLES.index(role)
        chosen = self.subset(rows)
        present = np.unique(chosen.category[chosen.category >= 0])
        category = np.where(chosen.category >= 0, np.searchsorted(present, chosen.category), -1)
        _, instance = np.unique(chosen.instance[chosen.instance >= 0], return_inverse=True)
        numbered = np.full(len(chosen), -1, dtype=np.int64)
        numbered[chosen.instance >= 0] = instance
        names = tuple(self.categories[int(c)] for c in present)
        return replace(chosen, categories=names, category=category.astype(np.int64), instance=numbered, role=None)

    def numbered_as(self, categories: Sequence[str]) -> Dataset:
        """The same images with categories numbered as in `categories`, which must name all of them."""
        number = {name: i for i, name in enumerate(categories)}
        if strange := sorted(set(self.categories) - set(number)):
            raise InputError(f"{self.name} has categories that were not trained on: {', '.join(strange)}")
        here = np.array([number[name] for name in self.categories], dtype=np.int64)
        return replace(self, categories=tuple(categories), category=np.where(self.category >= 0, here[self.category], -1))

    @property
    def instances(self) -> int:
        """How many instances there are, as their numbers go."""
        return int(self.instance.max(initial=-1)) + 1

    def describe(self) -> str:
        """One line for people: what is here, and how it was split."""
        sketches, photos = int((self.modality == SKETCH).sum()), int((self.modality == PHOTO).sum())
        split = f"; split {self.split_name} ({self.split_digest[:12]})" if self.split_digest else ""
        return f"{self.name}: {len(self.categories)} categories, {sketches} sketches, {photos} photos{split}"
