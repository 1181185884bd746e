"""Sketchy (Sangkloy et al. 2016), and Sketchy Extended (Liu et al. 2017): 125 classes, each photo drawn at least five times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_entries
from sbirlib.data.images import MAX_PIXELS, MaxPixels
from sbirlib.data.layout import Entry, paired
from sbirlib.data.published.facts import facts
from sbirlib.data.published.tree import by_class, find, place
from sbirlib.documents import read_text
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.options import hold

INVALID = ("error", "ambiguous", "pose", "context")


def sketchy(root: str | Path, *, variant: str = "tx_000000000000", skip_bad: bool = False, max_pixels: MaxPixels = MAX_PIXELS) -> Dataset:
    """Sketchy: <root>/256x256/{photo,sketch}/<variant>/<class>/, and <root>/info for the split `fg_sangkloy`.

    12,500 photos and 75,481 sketches; the sketch `X-2.png` belongs to the photo `X.jpg`.

    Args:
        variant: rendering of the sketches, as the archive names its folder; photos are all read from tx_000000000000
        skip_bad: decode every file, leave out those that cannot be read, and list them in one warning
        max_pixels: largest number of pixels of an image, checked before it is decoded
    """
    hold(sketchy, {"variant": variant, "skip_bad": skip_bad, "max_pixels": max_pixels})
    path = place(root)
    rows = paired(_sketches(path, variant) + _photos(path))
    splits = {**_without_extended_counts(), **_fine_grained(path, rows)}
    return from_entries("sketchy", path, rows, skip_bad=skip_bad, max_pixels=max_pixels, splits=splits)


def sketchy_extended(
    root: str | Path, *, variant: str = "tx_000000000000", skip_bad: bool = False, max_pixels: MaxPixels = MAX_PIXELS
) -> Dataset:
    """Sketchy with the photos of <root>/EXTEND_image_sketchy/<class>/: 73,003 in all.

    That folder repeats all photos of Sketchy but one, under their own names, and the file lists of several works have both copies; here
    each photo is in the dataset once.

    Args:
        variant: rendering of the sketches, as the archive names its folder; photos are all read from tx_000000000000
        skip_bad: decode every file, leave out those that cannot be read, and list them in one warning
        max_pixels: largest number of pixels of an image, checked before it is decoded
    """
    hold(sketchy_extended, {"variant": variant, "skip_bad": skip_bad, "max_pixels": max_pixels})
    path = place(root)
    extended = by_class(
        path, find(path, ("EXTEND_image_sketchy", "256x256/EXTEND_image_sketchy", "extended_photo")), PHOTO, facts("sketchy")
    )
    names = {_name(entry) for entry in extended}
    photos = extended + [entry for entry in _photos(path) if _name(entry) not in names]
    rows = paired(_sketches(path, variant) + photos)
    return from_entries("sketchy_extended", path, rows, skip_bad=skip_bad, max_pixels=max_pixels, splits=facts("sketchy").splits)


def _without_extended_counts() -> dict[str, Mapping[str, Any]]:
    """The splits by class, without the numbers of gallery photos, which are published for Sketchy Extended."""
    splits = facts("sketchy").splits
    return {
        name: {**entry, "counts": {k: n for k, n in entry.get("counts", {}).items() if k != "gallery_photos"}}
        for name, entry in splits.items()
    }


def _sketches(root: Path, variant: str) -> list[Entry]:
    return by_class(root, find(root, (f"256x256/sketch/{variant}", f"sketch/{variant}")), SKETCH, facts("sketchy"))


def _photos(root: Path) -> list[Entry]:
    return by_class(root, find(root, ("256x256/photo/tx_000000000000", "photo/tx_000000000000")), PHOTO, facts("sketchy"))


def _name(entry: Entry) -> tuple[str, str]:
    return entry.category, PurePosixPath(entry.path).stem


def _fine_grained(root: Path, rows: list[Entry]) -> dict[str, Mapping[str, Any]]:
    """The split within classes: the photos of info/testset.txt are the test split, without the sketches in the lists of invalid ones."""
    info = next((f for f in (root / "info", root / "info-06-04/info", root / "256x256/info") if (f / "testset.txt").is_file()), None)
    if info is None:
        return {}
    test_stems = {PurePosixPath(line).stem for line in _lines(info / "testset.txt")}
    invalid = {line for kind in INVALID for line in _lines(info / f"invalid-{kind}.txt")}
    photos = [entry.path for entry in rows if entry.modality == PHOTO]
    test = [path for path in photos if PurePosixPath(path).stem in test_stems]
    sketches = [e for e in rows if e.modality == SKETCH and e.instance and PurePosixPath(e.instance).stem in test_stems]
    left_out = [entry.path for entry in sketches if PurePosixPath(entry.path).stem in invalid]
    train = sorted(set(photos) - set(test))
    return {"fg_sangkloy": {"test_photos": test, "train_photos": train, "left_out_sketches": left_out}}


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]
