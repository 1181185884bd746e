"""Dataset check before training: counts, unreadable files, duplicates across splits."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sbirlib import registry
from sbirlib.data.dataset import SPLITS, Dataset
from sbirlib.data.images import PassedOver
from sbirlib.data.named import dataset as named
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.options import options_of
from sbirlib.progress import track


@dataclass(frozen=True)
class Count:
    """The images of one split: their number, and the fewest and the most in one class."""

    split: str
    classes: int
    sketches: int
    photos: int
    sketches_a_class: tuple[int, int]
    photos_a_class: tuple[int, int]


@dataclass(frozen=True)
class Findings:
    """The result of `check`.

    orphans: sketches of an instance that has no photo.
    shared: groups of images with equal bytes in more than one split, as (split, key).
    repeated: the number of images that repeat another one of their split.
    published: (quantity, expected, actual) where a number differs from the one published with the split.
    unreadable: the list of images that were left out, or "".
    passed_over: image files of an unsupported format, each with the reason; they are no fault.
    """

    dataset: Dataset
    counts: tuple[Count, ...]
    orphans: tuple[str, ...]
    shared: tuple[tuple[tuple[str, str], ...], ...]
    repeated: int
    published: tuple[tuple[str, int, int], ...]
    unreadable: str
    passed_over: tuple[tuple[Path, str], ...] = ()

    @property
    def faults(self) -> list[str]:
        """Faults to correct before a result on this dataset is believed."""
        faults = [self.unreadable] if self.unreadable else []
        faults += [f"{quantity}: {actual}, published are {expected}" for quantity, expected, actual in self.published]
        faults += ["the same image in " + " and ".join(f"{split} ({key})" for split, key in group) for group in self.shared]
        return faults


def check(source: str, split: str | None = None) -> Findings:
    """Count, decode and compare every image of a dataset: a name or a folder, as `sbirlib train` takes them.

    >>> findings = check("my-data", "seed:0")
    >>> findings.faults, findings.counts[0]
    ([], Count(split='train', classes=4, sketches=24, photos=24, sketches_a_class=(6, 6), photos_a_class=(6, 6)))
    """
    name = source.partition(":")[0]
    options = options_of(registry.load("dataset", name if name in registry.list_parts("dataset") else "folder"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = named(source, split, **({"skip_bad": True} if "skip_bad" in options else {}))
    messages = [w.message for w in caught]
    unreadable = "\n".join(str(m) for m in messages if str(m).startswith("skipped"))
    return examine(dataset, unreadable, tuple(file for m in messages if isinstance(m, PassedOver) for file in m.files))


def examine(dataset: Dataset, unreadable: str = "", passed_over: tuple[tuple[Path, str], ...] = ()) -> Findings:
    """Findings of an open dataset; `unreadable` and `passed_over` are known from its opening."""
    assignment = np.full(len(dataset), SPLITS.index("train")) if dataset.split is None else dataset.split
    counts = tuple(_count(dataset.subset(assignment == s), name) for s, name in enumerate(SPLITS) if (assignment == s).any())
    with_photo = np.unique(dataset.instance[(dataset.modality == PHOTO) & (dataset.instance >= 0)])
    alone = np.flatnonzero((dataset.modality == SKETCH) & (dataset.instance >= 0) & ~np.isin(dataset.instance, with_photo))
    groups: dict[bytes, list[int]] = defaultdict(list)
    with ThreadPoolExecutor(dataset.threads) as pool:
        digests = pool.map(lambda i: _digest(dataset, i), range(len(dataset)))
        for i, digest in enumerate(track(digests, total=len(dataset), label="comparing images")):
            groups[digest].append(i)
    shared, repeated = [], 0
    for rows in groups.values():
        first = {int(assignment[i]): i for i in reversed(rows)}
        repeated += len(rows) - len(first)
        if len(first) > 1:
            shared.append(tuple((SPLITS[s], dataset.key(i)) for s, i in sorted(first.items())))
    orphans = tuple(dataset.key(int(i)) for i in alone)
    return Findings(dataset, counts, orphans, tuple(shared), repeated, _published(dataset), unreadable, passed_over)


def _count(images: Dataset, split: str) -> Count:
    sizes = [np.bincount(images.category[(images.modality == m) & (images.category >= 0)]) for m in (SKETCH, PHOTO)]
    ranges = [(int(n[n > 0].min()), int(n.max())) if n.any() else (0, 0) for n in sizes]
    classes = len(np.unique(images.category[images.category >= 0]))
    return Count(split, classes, int((images.modality == SKETCH).sum()), int((images.modality == PHOTO).sum()), ranges[0], ranges[1])


def _published(dataset: Dataset) -> tuple[tuple[str, int, int], ...]:
    expected = dataset.splits.get(dataset.split_name.removeprefix(f"{dataset.name}/"), {}).get("counts", {})
    actual = {"query_sketches": len(dataset.test.sketches), "gallery_photos": len(dataset.test.photos)}
    return tuple((f"{name.replace('_', ' ')} of the test", n, actual[name]) for name, n in expected.items() if actual[name] != n)


def _digest(dataset: Dataset, i: int) -> bytes:
    """The SHA-256 of the file's bytes, or of the pixels if there is no file."""
    path = Path(dataset.path(i))
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).digest()
    image = dataset.read(i)
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).digest()
