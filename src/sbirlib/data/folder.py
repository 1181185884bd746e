"""Datasets of image files and of Python lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.data.images import MAX_PIXELS, SUFFIXES, UNSUPPORTED, Files, MaxPixels, good_images, plain
from sbirlib.data.layout import MODALITIES, Entry, entries, from_manifest, from_tree, has_manifest
from sbirlib.data.packed import is_packed, packed
from sbirlib.data.split import split as split_dataset
from sbirlib.data.texts import Texts
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.options import hold


def folder(
    root: str | Path,
    *,
    skip_bad: bool = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    draft: Annotated[int, Ge(0)] = 0,
    split: str | Sequence[str] | Annotated[int, Ge(0)] | None = None,
) -> Dataset:
    """A dataset of sketches and photos in a folder: `<root>/{sketch,photo}/<class>/<file>`, or the rows of `<root>/manifest.csv`.

    The sketch `X-2.png` or `X_2.png` belongs to the photo `X.*` of its class. A folder of one modality alone is a dataset too; a class
    that lacks the modality which others have is an error. Every header is checked. A warning counts image files of a format that is not
    supported.

    Args:
        skip_bad: decode every file, leave out those that cannot be read, and list them in one warning
        max_pixels: largest number of pixels of an image, checked before it is decoded
        draft: pixels that the shorter side of a JPEG image keeps where it is decoded at 1/2, 1/4 or 1/8, faster; 0 decodes all
        split: specification of the split, as `sbirlib.data.split.split` takes it; no split where none

    >>> folder("my-data", split="moon,sun").describe()
    'my-data: 6 categories, ... sketches, ... photos; split unseen=moon,sun (...)'
    """
    hold(folder, {"skip_bad": skip_bad, "max_pixels": max_pixels, "draft": draft, "split": split})
    path = Path(root).expanduser().resolve()
    rows = _readable(path, entries(path), skip_bad=skip_bad, max_pixels=max_pixels)
    dataset = from_entries(path.name, path, rows, max_pixels=max_pixels)
    if isinstance(dataset.reader, Files):
        dataset = replace(dataset, reader=replace(dataset.reader, draft=draft))
    return dataset if split is None else split_dataset(dataset, split)


def from_entries(
    name: str,
    root: Path,
    rows: list[Entry],
    *,
    skip_bad: bool = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    splits: Mapping[str, Mapping[str, Any]] | None = None,
) -> Dataset:
    """The dataset of these entries, whose paths are relative to `root`; without `skip_bad` no file is opened before it is read."""
    rows = _readable(root, rows, skip_bad=True, max_pixels=max_pixels) if skip_bad else rows
    if not rows:
        raise InputError(f"{root} holds no image ({', '.join(sorted(SUFFIXES))})")
    return replace(_dataset(name, rows, max_pixels, root=str(root)), splits=splits or {})


def images(
    source: str | Path | Sequence[Any],
    *,
    modality: Literal["sketch", "photo"] = "photo",
    skip_bad: bool = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    check: bool = True,
) -> Dataset:
    """A dataset of photos for a gallery, or of sketches for queries: a folder, one file, a packed dataset, or a list of paths, PIL images
    and arrays.

    Images have a category where the source tells it: in a dataset's folder (see `folder`), of which those of this modality are taken,
    and in a folder of classes, `<source>/<class>/<file>`. Elsewhere, at any depth, the category is -1. Links to files and to folders are followed.
    Without `check` no file is opened before its image is read.
    """
    if not isinstance(source, str | Path):
        return _listed(source, modality, skip_bad=skip_bad, max_pixels=max_pixels, check=check)
    path = Path(source).expanduser().resolve()
    if is_packed(path) and not path.is_dir():
        data = packed(path, skip_bad=skip_bad, max_pixels=max_pixels)
        if not len(images_ := data.photos if modality == "photo" else data.sketches):
            raise InputError(f"no {modality} in {source!s}")
        return images_
    if not path.exists():
        if path.suffix.lower() in SUFFIXES | UNSUPPORTED.keys():
            raise InputError(f"there is no file {path}: check its path")
        raise InputError(f"no such file or folder: {path}; expected an image file, or a folder of images")
    root = path.parent if path.is_file() else path
    if path.is_file():
        rows = [Entry(path.name, MODALITIES[modality], "", "")]
    elif has_manifest(path):
        rows = [e for e in from_manifest(path) if e.modality == MODALITIES[modality]]
    else:
        rows = from_tree(path, MODALITIES[modality])
    rows = _readable(root, rows, skip_bad=skip_bad, max_pixels=max_pixels) if check else rows
    if not rows:
        raise InputError(f"no {modality} in {source!s}: expected files that end in {', '.join(sorted(SUFFIXES))}")
    return _dataset(path.name, rows, max_pixels, root=str(root))


def from_lists(
    name: str,
    sketches: Sequence[tuple[Any, ...]] = (),
    photos: Sequence[tuple[Any, ...]] = (),
    *,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> Dataset:
    """A dataset of rows (image, class) or (image, class, instance); an image is a path, a PIL image, or a uint8 array [H, W] or [H, W, 3 or 4].

    >>> dot = np.zeros((8, 8), dtype=np.uint8)
    >>> from_lists("dots", sketches=[(dot, "dot", 7)], photos=[(dot, "dot", 7)]).instance
    array([0, 0])
    """
    entry_rows, pictures = [], []
    for modality, table in (("sketch", sketches), ("photo", photos)):
        for position, row in enumerate(table):
            key = f"{modality}[{position}]"
            if not isinstance(row, tuple | list) or len(row) not in (2, 3):
                raise InputError(f"{key} is {row!r}; expected (image, class) or (image, class, instance)")
            instance = "" if len(row) == 2 or row[2] is None else str(row[2])
            picture = _picture(row[0], key)
            entry_rows.append(Entry(picture if isinstance(picture, str) else key, MODALITIES[modality], str(row[1]), instance))
            pictures.append(picture)
    if not entry_rows:
        raise InputError(f"the dataset {name!r} is empty: give it sketches, photos or both")
    _good_pictures(pictures, skip_bad=False, max_pixels=max_pixels)
    return _dataset(name, entry_rows, max_pixels, pictures=pictures)


def _listed(source: Sequence[Any], modality: Literal["sketch", "photo"], *, skip_bad: bool, max_pixels: int, check: bool) -> Dataset:
    """The dataset of a list of paths, PIL images and arrays, without categories."""
    pictures = [_picture(image, f"{modality}[{i}]") for i, image in enumerate(source)]
    good = _good_pictures(pictures, skip_bad=skip_bad, max_pixels=max_pixels) if check else range(len(pictures))
    if not good:
        raise InputError(f"no {modality} was given: expected paths, PIL images or arrays")
    keys = [(p if isinstance(p, str) else f"{modality}[{i}]", p) for i, p in enumerate(pictures) if i in good]
    rows = [Entry(key, MODALITIES[modality], "", "") for key, _ in keys]
    return _dataset("images", rows, max_pixels, pictures=[p for _, p in keys])


def _picture(image: Any, key: str) -> str | Image.Image:
    if isinstance(image, str | Path):
        return str(image)
    if isinstance(image, Image.Image):
        return plain(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        return Image.fromarray(image)
    kind = f"an array {image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise InputError(f"{key} is {kind}; expected a path, a PIL image, or a uint8 array [H, W] or [H, W, 3 or 4]")


def _good_pictures(pictures: Sequence[str | Image.Image], *, skip_bad: bool, max_pixels: int) -> set[int]:
    """Positions of the readable pictures: all PIL images, and the good files."""
    files = [i for i, p in enumerate(pictures) if isinstance(p, str)]
    good = good_images([Path(str(pictures[i])) for i in files], skip_bad=skip_bad, max_pixels=max_pixels)
    return {i for i, p in enumerate(pictures) if not isinstance(p, str)} | {files[g] for g in good}


def _readable(root: Path, rows: list[Entry], *, skip_bad: bool, max_pixels: int) -> list[Entry]:
    return [rows[i] for i in good_images([root / e.path for e in rows], skip_bad=skip_bad, max_pixels=max_pixels)]


def _dataset(
    name: str, rows: list[Entry], max_pixels: int, *, root: str = "", pictures: Sequence[str | Image.Image] | None = None
) -> Dataset:
    """The dataset of these entries, with the image of each in `pictures` (default: the file of its path in `root`)."""
    classes = {m: {e.category for e in rows if e.modality == m} for m in (SKETCH, PHOTO)}
    if classes[SKETCH] and classes[PHOTO] and (alone := sorted(classes[SKETCH] ^ classes[PHOTO])):
        lacking = ", ".join(f"{c!r} has no {'sketch' if c in classes[PHOTO] else 'photo'}" for c in alone)
        raise InputError(f"{name}: every class needs both sketches and photos, but {lacking}: add them, or remove the class")
    categories = sorted({e.category for e in rows} - {""})
    number = {c: i for i, c in enumerate(categories)}
    instances = {e: i for i, e in enumerate(dict.fromkeys(e.instance for e in rows if e.instance))}
    if len({e.path for e in rows}) < len(rows):
        repeated = Counter(e.path for e in rows).most_common(1)[0][0]
        raise InputError(f"{name}: {repeated} is given twice; keep one")
    keys = Texts.of(e.path for e in rows)
    return Dataset.of(
        name,
        categories=categories,
        modality=np.fromiter((e.modality for e in rows), np.int64, len(rows)),
        category=np.fromiter((number.get(e.category, -1) for e in rows), np.int64, len(rows)),
        instance=np.fromiter((instances.get(e.instance, -1) for e in rows), np.int64, len(rows)),
        keys=keys,
        reader=Files(keys if pictures is None else tuple(pictures), max_pixels, root),
        root=root,
    )
