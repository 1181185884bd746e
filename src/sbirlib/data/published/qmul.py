"""QMUL ShoeV2 and ChairV2 (Yu et al. 2016, second edition): sketches of single shoes and chairs, each with its photo."""

from __future__ import annotations

from pathlib import Path

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_entries
from sbirlib.data.images import MAX_PIXELS, MaxPixels, image_files, warn_unsupported
from sbirlib.data.layout import Entry, paired
from sbirlib.data.published.tree import find, place
from sbirlib.documents import read_text
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.options import hold


def shoe_v2(root: str | Path, *, skip_bad: bool = False, max_pixels: MaxPixels = MAX_PIXELS) -> Dataset:
    """ShoeV2: <root>/ShoeV2_photo/ID.png and <root>/ShoeV2_sketch_png/ID_1.png with <root>/photo_{train,test}.txt, or <root>/{train,test}{A,B}.

    The sketch `ID_1.png` belongs to the photo `ID.png`; its drawing is in the alpha channel. The split is `published`; a tenth of the
    training photos validates.

    Args:
        skip_bad: decode every file, leave out those that cannot be read, and list them in one warning
        max_pixels: largest number of pixels of an image, checked before it is decoded
    """
    hold(shoe_v2, {"skip_bad": skip_bad, "max_pixels": max_pixels})
    return _of("shoe", root, skip_bad=skip_bad, max_pixels=max_pixels)


def chair_v2(root: str | Path, *, skip_bad: bool = False, max_pixels: MaxPixels = MAX_PIXELS) -> Dataset:
    """ChairV2: <root>/ChairV2_photo/ID.png and <root>/ChairV2_sketch_png/ID_1.png, otherwise as ShoeV2.

    Args:
        skip_bad: decode every file, leave out those that cannot be read, and list them in one warning
        max_pixels: largest number of pixels of an image, checked before it is decoded
    """
    hold(chair_v2, {"skip_bad": skip_bad, "max_pixels": max_pixels})
    return _of("chair", root, skip_bad=skip_bad, max_pixels=max_pixels)


def _of(category: str, root: str | Path, *, skip_bad: bool, max_pixels: int) -> Dataset:
    path, prefix = place(root), f"{category.capitalize()}V2"
    if (path / "trainB").is_dir():
        sketches = [f for split in ("trainA", "testA") for f in _files(path / split)]
        splits = {split: _files(path / f"{split}B") for split in ("train", "test")}
        photos = [*splits["train"], *splits["test"]]
    else:
        sketches = _files(find(path, (f"{prefix}_sketch_png", f"{prefix}_sketch", "sketch_png", "sketch")))
        photos = _files(find(path, (f"{prefix}_photo", "photo")))
        splits = {split: _listed(path / f"photo_{split}.txt", photos) for split in ("train", "test")}
    rows = [
        Entry(file.relative_to(path).as_posix(), modality, category, "")
        for modality, files in ((SKETCH, sketches), (PHOTO, photos))
        for file in files
    ]
    published = {f"{split}_photos": [file.relative_to(path).as_posix() for file in files] for split, files in splits.items()}
    return from_entries(f"{category}_v2", path, paired(rows), skip_bad=skip_bad, max_pixels=max_pixels, splits={"published": published})


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; the four folders {{train,test}}{{A,B}} are published together")
    unsupported: list[Path] = []
    files = sorted(image_files(folder.iterdir(), unsupported))
    warn_unsupported(unsupported)
    return files


def _listed(file: Path, photos: list[Path]) -> list[Path]:
    """The photos named by a published list, one file name a line."""
    if not file.is_file():
        raise InputError(f"no such file: {file}; it is published with the photos, and says which are {file.stem.rpartition('_')[2]}ed on")
    by_stem = {photo.stem: photo for photo in photos}
    names = [Path(line.strip()).stem for line in read_text(file).splitlines() if line.strip()]
    if missing := [name for name in names if name not in by_stem]:
        raise InputError(f"{file} names {len(missing)} photos that are not there, such as {missing[0]}")
    return [by_stem[name] for name in names]
