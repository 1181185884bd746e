"""Datasets from files and from Python lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.data.images import MAX_PIXELS, SUFFIXES, good_images, open_image, plain
from sbirlib.data.layout import MODALITIES, Entry, entries, image_tree
from sbirlib.data.split import split as split_dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH


def folder(
    root: str | Path,
    *,
    skip_bad: bool = False,
    max_pixels: int = MAX_PIXELS,
    split: str | Sequence[str] | int | None = None,
) -> Dataset:
    """The sketches and photos of a folder: `<root>/{sketch,photo}/<class>/<file>`, or what `<root>/manifest.csv` lists.

    The sketch `X-2.png` or `X_2.png` belongs to the photo `X.*` of its class. All sketches, or all photos, is a dataset too; a class
    that lacks the modality which others have is an error. Every header is checked; `skip_bad` decodes every file, leaves out the bad
    ones and lists them in a warning. `split` is a spec of `sbirlib.data.split.split`.

    >>> folder("qdphoto", split="moon,sun").describe()  # doctest: +SKIP
    'qdphoto: 61 categories, 1516 sketches, 5039 photos; split unseen=moon,sun (0a1b...)'
    """
    place = Path(root).expanduser().resolve()
    found = _readable(place, entries(place), skip_bad=skip_bad, max_pixels=max_pixels)
    dataset = from_entries(place.name, place, found, max_pixels=max_pixels)
    return dataset if split is None else split_dataset(dataset, split)


def from_entries(
    name: str,
    root: Path,
    found: list[Entry],
    *,
    skip_bad: bool = False,
    max_pixels: int = MAX_PIXELS,
    splits: Mapping[str, Mapping[str, Any]] | None = None,
) -> Dataset:
    """The dataset of the images that are listed, by their paths from `root`; no file is opened before it is read, but with `skip_bad`."""
    found = _readable(root, found, skip_bad=True, max_pixels=max_pixels) if skip_bad else found
    if not found:
        raise InputError(f"{root} holds no image ({', '.join(sorted(SUFFIXES))})")
    dataset = _dataset(name, found, Files(tuple(str(root / e.path) for e in found), max_pixels), root=str(root))
    return replace(dataset, splits=splits or {})


def images(
    source: str | Path | Sequence[Any],
    *,
    modality: Literal["sketch", "photo"] = "photo",
    skip_bad: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Images to search or to ask with: a folder of any depth, one file, or a list of paths, PIL images and arrays.

    The images of a dataset's folder (see `folder`) that are of this modality keep their classes; otherwise there are no categories, and
    every category is -1.
    """
    if not isinstance(source, str | Path):
        pictures = [_picture(given, f"{modality}[{i}]") for i, given in enumerate(source)]
        good = _good_pictures(pictures, skip_bad=skip_bad, max_pixels=max_pixels)
        if not good:
            raise InputError(f"no {modality} was given: expected paths, PIL images or arrays")
        named = [(p if isinstance(p, str) else f"{modality}[{i}]", p) for i, p in enumerate(pictures) if i in good]
        found = [Entry(name, MODALITIES[modality], "", "") for name, _ in named]
        return _dataset("images", found, Files(tuple(p for _, p in named), max_pixels))
    place = Path(source).expanduser().resolve()
    if not place.exists():
        raise InputError(f"no such file or folder: {place}; expected a folder of images")
    if (place / "manifest.csv").is_file() or any((place / modality).glob("*/")):
        found = [e for e in entries(place) if e.modality == MODALITIES[modality]]
    else:
        files = [Path(place.name)] if place.is_file() else [f.relative_to(place) for f in image_tree(place)]
        found = [Entry(f.as_posix(), MODALITIES[modality], "", "") for f in files]
    start = place.parent if place.is_file() else place
    found = _readable(start, found, skip_bad=skip_bad, max_pixels=max_pixels)
    if not found:
        raise InputError(f"no {modality} in {source!s}: expected files that end in {', '.join(sorted(SUFFIXES))}")
    return _dataset(place.name, found, Files(tuple(str(start / e.path) for e in found), max_pixels), root=str(start))


def from_lists(
    name: str,
    sketches: Sequence[tuple[Any, ...]] = (),
    photos: Sequence[tuple[Any, ...]] = (),
    *,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """A dataset of (image, class) or (image, class, instance): an image is a path, a PIL image, or a uint8 array [H, W] or [H, W, 3 or 4].

    >>> dot = np.zeros((8, 8), dtype=np.uint8)
    >>> from_lists("dots", sketches=[(dot, "dot", 7)], photos=[(dot, "dot", 7)]).instance
    array([0, 0])
    """
    found, pictures = [], []
    for modality, rows in (("sketch", sketches), ("photo", photos)):
        for position, row in enumerate(rows):
            key = f"{modality}[{position}]"
            if not isinstance(row, tuple | list) or len(row) not in (2, 3):
                raise InputError(f"{key} is {row!r}; expected (image, class) or (image, class, instance)")
            instance = "" if len(row) == 2 or row[2] is None else str(row[2])
            picture = _picture(row[0], key)
            found.append(Entry(picture if isinstance(picture, str) else key, MODALITIES[modality], str(row[1]), instance))
            pictures.append(picture)
    if not found:
        raise InputError(f"the dataset {name!r} is empty: give it sketches, photos or both")
    _good_pictures(pictures, skip_bad=False, max_pixels=max_pixels)
    return _dataset(name, found, Files(tuple(pictures), max_pixels))


@dataclass(frozen=True)
class Files:
    """Opens an image by position: from its path, or as it was given."""

    threads: ClassVar[int] = 4

    pictures: tuple[str | Image.Image, ...]
    max_pixels: int

    def __call__(self, position: int) -> Image.Image:
        picture = self.pictures[position]
        return open_image(picture, max_pixels=self.max_pixels) if isinstance(picture, str) else picture


def _picture(given: Any, key: str) -> str | Image.Image:
    if isinstance(given, str | Path):
        return str(given)
    if isinstance(given, Image.Image):
        return plain(given)
    if isinstance(given, np.ndarray) and given.dtype == np.uint8 and (given.ndim == 2 or (given.ndim == 3 and given.shape[2] in (3, 4))):
        return Image.fromarray(given)
    told = f"an array {given.dtype} {list(given.shape)}" if isinstance(given, np.ndarray) else type(given).__name__
    raise InputError(f"{key} is {told}; expected a path, a PIL image, or a uint8 array [H, W] or [H, W, 3 or 4]")


def _good_pictures(pictures: Sequence[str | Image.Image], *, skip_bad: bool, max_pixels: int) -> set[int]:
    """The positions of what can be read: pictures that are there already, and good files."""
    files = [i for i, p in enumerate(pictures) if isinstance(p, str)]
    good = good_images([Path(str(pictures[i])) for i in files], skip_bad=skip_bad, max_pixels=max_pixels)
    return {i for i, p in enumerate(pictures) if not isinstance(p, str)} | {files[g] for g in good}


def _readable(root: Path, found: list[Entry], *, skip_bad: bool, max_pixels: int) -> list[Entry]:
    return [found[i] for i in good_images([root / e.path for e in found], skip_bad=skip_bad, max_pixels=max_pixels)]


def _dataset(name: str, found: list[Entry], reader: Files, *, root: str = "") -> Dataset:
    classes = {m: {e.category for e in found if e.modality == m} for m in (SKETCH, PHOTO)}
    if classes[SKETCH] and classes[PHOTO] and (alone := sorted(classes[SKETCH] ^ classes[PHOTO])):
        lacking = ", ".join(f"{c!r} has no {'sketch' if c in classes[PHOTO] else 'photo'}" for c in alone)
        raise InputError(f"{name}: every class needs both sketches and photos, but {lacking}: add them, or remove the class")
    categories = sorted({e.category for e in found} - {""})
    number = {c: i for i, c in enumerate(categories)}
    instances = {e: i for i, e in enumerate(dict.fromkeys(e.instance for e in found if e.instance))}
    keys = [e.path for e in found]
    if len(set(keys)) < len(keys):
        raise InputError(f"{name}: {next(k for k in keys if keys.count(k) > 1)} is given twice; keep one")
    return Dataset.of(
        name,
        categories=categories,
        modality=[e.modality for e in found],
        category=[number.get(e.category, -1) for e in found],
        instance=[instances.get(e.instance, -1) for e in found],
        keys=keys,
        reader=reader,
        root=root,
    )
