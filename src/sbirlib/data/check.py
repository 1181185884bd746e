"""What is in a dataset, and what is wrong with it, before anything trains on it."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sbirlib import registry
from sbirlib.data.dataset import ROLES, Dataset
from sbirlib.data.named import dataset as named
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.options import options_of
from sbirlib.progress import track


@dataclass(frozen=True)
class Count:
    """The images of one role: how many, and the fewest and the most of a class."""

    role: str
    classes: int
    sketches: int
    photos: int
    sketches_a_class: tuple[int, int]
    photos_a_class: tuple[int, int]


@dataclass(frozen=True)
class Findings:
    """What `check` found. `orphans`: sketches of an instance that has no photo. `shared`: images whose bytes are the same in more than one
    role, as (role, key); `repeated`: how many images repeat one of their own role. `published`: (what, expected, found) where the number
    is another than that published with the split. `unreadable` is empty, or lists what was left out."""

    dataset: Dataset
    counts: tuple[Count, ...]
    orphans: tuple[str, ...]
    shared: tuple[tuple[tuple[str, str], ...], ...]
    repeated: int
    published: tuple[tuple[str, int, int], ...]
    unreadable: str

    @property
    def faults(self) -> list[str]:
        """What should be mended before a measurement is believed."""
        found = [self.unreadable] if self.unreadable else []
        found += [f"{what}: {there}, published are {expected}" for what, expected, there in self.published]
        found += ["the same image in " + " and ".join(f"{role} ({key})" for role, key in group) for group in self.shared]
        return found


def check(source: str, split: str | None = None) -> Findings:
    """Count, decode and compare every image of a dataset: a name or a folder, as `sbirlib train` takes them.

    >>> check("my-data", "seed:0").faults  # doctest: +SKIP
    ['the same image in train (photo/cat/3.jpg) and test (photo/lynx/8.jpg)']
    """
    name = source.partition(":")[0]
    known = options_of(registry.load("dataset", name if name in registry.list_parts("dataset") else "folder"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        dataset = named(source, split, **({"skip_bad": True} if "skip_bad" in known else {}))
    unreadable = "\n".join(str(w.message) for w in told if str(w.message).startswith("skipped"))
    return examine(dataset, unreadable)


def examine(dataset: Dataset, unreadable: str = "") -> Findings:
    """The findings of a dataset that is open."""
    roles = np.full(len(dataset), ROLES.index("train")) if dataset.role is None else dataset.role
    counts = tuple(_count(dataset.subset(roles == role), name) for role, name in enumerate(ROLES) if (roles == role).any())
    drawn = np.unique(dataset.instance[(dataset.modality == PHOTO) & (dataset.instance >= 0)])
    alone = np.flatnonzero((dataset.modality == SKETCH) & (dataset.instance >= 0) & ~np.isin(dataset.instance, drawn))
    groups: dict[bytes, list[int]] = defaultdict(list)
    with ThreadPoolExecutor(dataset.threads) as pool:
        digests = pool.map(lambda i: _digest(dataset, i), range(len(dataset)))
        for i, digest in enumerate(track(digests, total=len(dataset), label="comparing images")):
            groups[digest].append(i)
    shared, repeated = [], 0
    for rows in groups.values():
        first = {int(roles[i]): i for i in reversed(rows)}
        repeated += len(rows) - len(first)
        if len(first) > 1:
            shared.append(tuple((ROLES[role], dataset.key(i)) for role, i in sorted(first.items())))
    return Findings(dataset, counts, tuple(dataset.key(int(i)) for i in alone), tuple(shared), repeated, _published(dataset), unreadable)


def _count(part: Dataset, role: str) -> Count:
    each = [np.bincount(part.category[(part.modality == m) & (part.category >= 0)]) for m in (SKETCH, PHOTO)]
    ranges = [(int(n[n > 0].min()), int(n.max())) if n.any() else (0, 0) for n in each]
    classes = len(np.unique(part.category[part.category >= 0]))
    return Count(role, classes, int((part.modality == SKETCH).sum()), int((part.modality == PHOTO).sum()), ranges[0], ranges[1])


def _published(dataset: Dataset) -> tuple[tuple[str, int, int], ...]:
    expected = dataset.splits.get(dataset.split_name.removeprefix(f"{dataset.name}/"), {}).get("counts", {})
    found = {"query_sketches": len(dataset.test.sketches), "gallery_photos": len(dataset.test.photos)}
    return tuple((f"{what.replace('_', ' ')} of the test", n, found[what]) for what, n in expected.items() if found[what] != n)


def _digest(dataset: Dataset, i: int) -> bytes:
    """Of the file's bytes; of the pixels, where there is no file."""
    path = Path(dataset.path(i))
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).digest()
    image = dataset.read(i)
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).digest()
