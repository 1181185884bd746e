"""Folders of photos that change, and what a sync makes of them."""

import os
from pathlib import Path
from typing import Any

import torch

from sbirlib import Pipeline
from sbirlib.data.dataset import Dataset
from sbirlib.search import SearchIndex
from sbirlib.sync.changes import Changes

HOUR = 3600 * 10**9


def put(dataset: Dataset, i: int, path: Path, *, age: int = HOUR) -> Path:
    """Photo i as a file of this age."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.photos.read(i).save(path)
    return aged(path, age)


def aged(path: Path, age: int = HOUR) -> Path:
    time = path.stat().st_mtime_ns - age
    os.utime(path, ns=(time, time))
    return path


def counts(changes: Changes) -> tuple[int, ...]:
    return (*map(len, (changes.added, changes.removed, changes.changed, changes.bad)), changes.kept)


def synced(index: SearchIndex, photos: Path, **options: Any) -> tuple[int, ...]:
    return counts(index.sync(photos, progress=False, **options))


def same_as_anew(index: SearchIndex, pipeline: Pipeline, photos: Path) -> bool:
    """Whether an index holds the photos of the folder, and for each the vector that it has now."""
    anew = pipeline.index(photos, progress=False).index
    paths = sorted(index.index.paths())
    return paths == sorted(anew.paths()) and torch.allclose(index.index.vectors(paths), anew.vectors(paths), atol=1e-4)


def change(photos: Path, dataset: Dataset) -> None:
    """One photo new, one gone, one changed, one touched, one renamed."""
    put(dataset, 20, photos / "new" / "20.png")
    (photos / "class0" / "0.png").unlink()
    put(dataset, 21, photos / "class1" / "1.png", age=HOUR // 2)
    os.utime(photos / "class0" / "2.png", ns=(HOUR, HOUR))
    (photos / "class1" / "3.png").rename(photos / "class1" / "other.png")
