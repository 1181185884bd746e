"""Samplers of batches: pure functions of labels, options, seed and epoch, so that training resumes from a position alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from sbirlib.data.dataset import IntArray
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Component, Labels

NONE = np.empty(0, dtype=np.int64)
NO_PHOTO = {  # of pairs that cannot be: whose photo is missing, and the way out where no sketch has one
    "instance": ("their own", "this dataset has no instances; use the sampler balanced"),
    "category": ("their class", "no sketch has a class; use the sampler shuffled"),
}
MODALITIES = {"both": (SKETCH, PHOTO), "sketch": (SKETCH,), "photo": (PHOTO,)}


@dataclass(frozen=True, kw_only=True)
class Balanced(Component):
    """P classes x (K sketches + K photos): 2PK images, class by class, its K sketches and then its K photos.

    An epoch is n / 2PK batches, at least one. Classes are sampled without replacement, round by round; a class with fewer than K images
    of a modality repeats them. For triplet and proxy losses (Huang et al. 2022, section 4: P = 16, K = 4, 128 images).

    Args:
        categories: number P of classes a batch
        per_modality: number K of sketches, and of photos, a class

    >>> len(Balanced(categories=2, per_modality=4).batches(dataset, seed=0, epoch=0)[0])
    16
    """

    categories: Annotated[int, Ge(1)] = 16
    per_modality: Annotated[int, Ge(1)] = 4

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]:
        """Row numbers of each batch of an epoch."""
        rows = self._rows(labels)
        rng = np.random.default_rng([seed, epoch])
        queue: list[int] = []
        batches = []
        for _ in range(max(1, len(labels) // (2 * self.categories * self.per_modality))):
            if len(queue) < self.categories:  # a new round follows the rest of the old, ordered so that no batch has a class twice
                queue = queue + [c for c in rng.permutation(list(rows)).tolist() if c not in queue] + queue
            batch, queue = queue[: self.categories], queue[self.categories :]
            batches.append([int(i) for c in batch for group in rows[c] for i in np.resize(rng.permutation(group), self.per_modality)])
        return batches

    def _rows(self, labels: Labels) -> dict[int, list[IntArray]]:
        """Row numbers [n] of the sketches and of the photos of each class."""
        category, modality = np.asarray(labels.category), np.asarray(labels.modality)
        classes = np.unique(category[category >= 0]).tolist()
        if len(classes) < self.categories:
            raise InputError(
                f"balanced batches take categories={self.categories} classes, and there are {len(classes)} to train on: "
                f"set the sampler's option categories to {max(len(classes), 1)} or less, or train on more classes"
            )
        groups_of = [_groups(np.where(modality == m, category, -1)) for m in (SKETCH, PHOTO)]
        rows = {c: [groups.get(c, NONE) for groups in groups_of] for c in classes}
        for c, groups in rows.items():
            for name, group in zip(("sketches", "photos"), groups, strict=True):
                if not len(group):
                    raise InputError(f"balanced batches need both modalities of each class, and class {_name(labels, c)} has no {name}")
        return rows


@dataclass(frozen=True, kw_only=True)
class Pairs(Component):
    """`pairs` sketches, each followed by a photo of its instance, or of its category: 2 x pairs images.

    An epoch has every sketch once, with a random photo, except for incomplete last groups and batches. Of instances: sketches without a photo of
    their own are left out, and those of one instance are spread over the epoch; with `per_category` above 1, pairs come in groups of different
    instances of one category, for losses that compare photos of a category. Of categories: batches are random, 32 sketches of 104 classes being
    of some 28 (as ACNet was released, Ren et al. 2022).

    Args:
        pairs: sketches a batch, each with its photo
        of: number that a sketch and its photo share, that of their instance or of their category
        per_category: different instances of one category a group; `pairs` is a multiple of it
    """

    pairs: Annotated[int, Ge(1)] = 32
    of: Literal["instance", "category"] = "instance"
    per_category: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        if self.pairs % self.per_category:
            raise InputError(f"pairs={self.pairs} is not a multiple of per_category={self.per_category}: change one of them")
        if self.of == "category" and self.per_category > 1:
            raise InputError(
                f"per_category={self.per_category} groups instances, and pairs are of a category: leave it out, or set of='instance'"
            )

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]:
        """Row numbers of each batch of an epoch."""
        number, modality = np.asarray(getattr(labels, self.of)), np.asarray(labels.modality)
        photos = np.flatnonzero((modality == PHOTO) & (number >= 0))
        photos = photos[np.argsort(number[photos], kind="stable")]  # instance by instance, or category by category
        sketches = self._sketches(labels, number[photos])
        rng = np.random.default_rng([seed, epoch])
        ordered = rng.permutation(sketches)
        if self.of == "instance":
            ordered = ordered[np.argsort(_turn(number[ordered]), kind="stable")]  # the k-th sketch of an instance comes in round k
        if self.per_category > 1:
            ordered = np.array(self._grouped(ordered.tolist(), labels, rng))
        first, last = (np.searchsorted(number[photos], number[ordered], side) for side in ("left", "right"))
        photo = photos[first + rng.integers(0, last - first)]  # one of the photos of each sketch's number
        count = len(ordered) // self.pairs
        paired = np.stack([ordered, photo], 1)[: count * self.pairs]
        batches: list[list[int]] = paired.reshape(count, 2 * self.pairs).tolist()
        return batches

    def _sketches(self, labels: Labels, photos: IntArray) -> IntArray:
        """Row numbers of the sketches whose number is among those of the photos [n]. Raises InputError where they are too few for a batch."""
        number = np.asarray(getattr(labels, self.of))
        numbered = np.flatnonzero((np.asarray(labels.modality) == SKETCH) & (number >= 0))
        sketches = numbered[np.isin(number[numbered], photos)]
        if self.of == "category" and len(sketches) < len(numbered):
            alone = number[np.setdiff1d(numbered, sketches)[0]]
            raise InputError(
                f"pairs of a category need photos of each class, and class {_name(labels, alone)} has none: add some, or leave the class out"
            )
        if len(sketches) < self.pairs:
            whose, nothing = NO_PHOTO[self.of]
            way = "set the sampler's option pairs lower" if len(sketches) else nothing
            raise InputError(f"pairs={self.pairs} sketches with a photo of {whose} are needed, and there are {len(sketches)}: {way}")
        return sketches

    def _grouped(self, sketches: list[int], labels: Labels, rng: np.random.Generator) -> list[int]:
        """Sketches in groups of `per_category` instances of one category; incomplete groups are left out."""
        category, instance = np.asarray(labels.category), np.asarray(labels.instance)
        for c in np.unique(category[sketches]).tolist():
            instances = len(np.unique(instance[[row for row in sketches if category[row] == c]]))
            if instances < self.per_category:
                raise InputError(
                    f"per_category={self.per_category} instances of each category are needed, each with a sketch and a photo, and "
                    f"{_name(labels, c)} has {instances}: leave the category out, or set per_category lower"
                )
        groups: list[list[int]] = []
        growing: defaultdict[int, list[list[int]]] = defaultdict(list)  # of each category
        for row in sketches:
            mine = growing[int(category[row])]
            group = next((g for g in mine if all(instance[row] != instance[other] for other in g)), None)
            if group is None:
                mine.append(group := [])
            group.append(row)
            if len(group) == self.per_category:
                mine.remove(group)
                groups.append(group)
        if len(groups) * self.per_category < self.pairs:
            raise InputError(f"pairs={self.pairs} are needed in groups of {self.per_category}, and there are {len(groups)} groups")
        return [row for i in rng.permutation(len(groups)).tolist() for row in groups[i]]


@dataclass(frozen=True, kw_only=True)
class Shuffled(Component):
    """Every image of a modality (or of both) once an epoch, shuffled; the last batch may be smaller, but never of one image.

    Args:
        size: images a batch
        modality: images to sample: "both", "sketch" or "photo"
    """

    size: Annotated[int, Ge(2)] = 128
    modality: Literal["both", "sketch", "photo"] = "both"

    def batches(self, labels: Labels, *, seed: int, epoch: int) -> list[list[int]]:
        """Row numbers of each batch of an epoch."""
        rows = np.flatnonzero(np.isin(np.asarray(labels.modality), MODALITIES[self.modality]))
        if len(rows) < 2:
            raise InputError(
                f"a batch needs two images of modality {self.modality!r}, and there are {len(rows)}: check the dataset and its split"
            )
        shuffled = np.random.default_rng([seed, epoch]).permutation(rows).tolist()
        batches = [shuffled[i : i + self.size] for i in range(0, len(shuffled), self.size)]
        return batches if len(batches[-1]) > 1 else batches[:-1]


def _groups(numbers: IntArray) -> dict[int, IntArray]:
    """Positions [k], in order, of each number in `numbers` [n]; those below 0 are left out."""
    order = np.argsort(numbers, kind="stable")
    present, starts = np.unique(numbers[order], return_index=True)
    return {int(c): group for c, group in zip(present, np.split(order, starts[1:]), strict=True) if c >= 0}


def _turn(numbers: IntArray) -> IntArray:
    """The place [n] of each entry among the entries of its number, from 0."""
    order = np.argsort(numbers, kind="stable")
    _, starts, counts = np.unique(numbers[order], return_index=True, return_counts=True)
    turn = np.empty(len(numbers), dtype=np.int64)
    turn[order] = np.arange(len(numbers)) - np.repeat(starts, counts)
    return turn


def _name(labels: Labels, category: int) -> str:
    names = getattr(labels, "categories", None)
    return repr(names[category]) if names else str(category)
