"""Entries of a dataset's folder: image paths with modality, category and instance."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sbirlib.data.images import SUFFIXES, image_files, warn_unsupported
from sbirlib.documents import read_rows
from sbirlib.errors import InputError, nearest
from sbirlib.files import is_file
from sbirlib.interfaces import PHOTO, SKETCH

MODALITIES = {"sketch": SKETCH, "photo": PHOTO}
LAYOUT = "<root>/{sketch,photo}/<class>/<file>, or a manifest.csv with the columns path, modality, class, instance_id"
COLUMNS = ("path", "modality", "class", "instance_id")
NUMBERED = re.compile(r"(.+)[-_]\d+")


class Entry(NamedTuple):
    """One image: its path from the root (the key), its labels, and the name of its instance ("": none)."""

    path: str
    modality: int
    category: str
    instance: str


def entries(root: Path) -> list[Entry]:
    """The entries of `root`, from its manifest.csv if there is one, else from its folders; an `InputError` if it has neither."""
    if not root.is_dir():
        raise InputError(f"no such folder: {root}; expected {LAYOUT}")
    if (root / "manifest.csv").is_file():
        return from_manifest(root)
    if not any((root / m).is_dir() for m in MODALITIES):
        raise InputError(f"{root} has neither a sketch nor a photo folder; expected {LAYOUT}")
    return from_folders(root)


def from_folders(root: Path) -> list[Entry]:
    """The entries of <root>/{sketch,photo}/<class>/<file>; the sketch X.png, X-2.png or X_2.png belongs to the photo X.* of its class."""
    rows: list[Entry] = []
    unsupported: list[Path] = []
    for name, modality in MODALITIES.items():
        folder = root / name
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        for class_folder in (p for p in inside if p.is_dir() and not p.name.startswith(".")):
            files = sorted(image_files(class_folder.iterdir(), unsupported))
            if not files:
                warn_unsupported(unsupported)
                raise InputError(f"{class_folder} holds no image ({', '.join(sorted(SUFFIXES))}): add some, or remove the folder")
            rows += [Entry(f.relative_to(root).as_posix(), modality, class_folder.name, "") for f in files]
    warn_unsupported(unsupported)
    return paired(rows)


def from_tree(root: Path, modality: int) -> list[Entry]:
    """The entries of every image below `root`, sorted; hidden folders and links to folders are ignored.

    An image in <root>/<class>/ has that folder's name as its category; an image elsewhere has none.
    """
    files: list[Path] = []
    unsupported: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [f for f in subfolders if not f.startswith(".")]
        files += image_files((Path(folder) / n for n in names), unsupported)
    warn_unsupported(unsupported)
    keys = [f.relative_to(root) for f in sorted(files)]
    return [Entry(key.as_posix(), modality, key.parent.name if len(key.parts) == 2 else "", "") for key in keys]


def paired(rows: list[Entry]) -> list[Entry]:
    """The entries with the instance of each sketch and its photo, which are matched by file name within the class."""
    photos: dict[tuple[str, str], list[Entry]] = {}
    for entry in rows:
        if entry.modality == PHOTO:
            photos.setdefault((entry.category, Path(entry.path).stem), []).append(entry)
    instance: dict[str, str] = {}
    for entry in rows:
        if entry.modality == SKETCH:
            stem = Path(entry.path).stem
            number = NUMBERED.fullmatch(stem)
            matches = photos.get((entry.category, stem)) or photos.get((entry.category, number[1] if number else ""), [])
            if len(matches) > 1:
                both = " or ".join(p.path for p in matches)
                raise InputError(f"the sketch {entry.path} may belong to {both}: rename one, or say which in a manifest.csv")
            instance |= {e.path: matches[0].path for e in (entry, *matches)} if matches else {}
    return [e._replace(instance=instance.get(e.path, "")) for e in rows]


def from_manifest(root: Path) -> list[Entry]:
    """The entries of <root>/manifest.csv; an instance_id names an instance within its class, and may be empty."""
    file = root / "manifest.csv"
    rows = [(f"{file}, line {line}", *(row[c].strip() for c in COLUMNS)) for line, row in read_rows(file, COLUMNS, expected=LAYOUT)]
    lines_of: dict[str, str] = {}
    listing = []
    for where, path, modality, category, instance in rows:
        if modality not in MODALITIES:
            raise InputError(f"{where}: unknown modality {modality!r}{nearest(modality, MODALITIES)}")
        if not category:
            raise InputError(f"{where}: the class of {path} is empty; give every row a class")
        if PurePosixPath(path).is_absolute() or Path(path).is_absolute() or ".." in re.split(r"[/\\]", path):
            raise InputError(f"{where}: {path!r} leads out of {root}; paths are relative to that folder, and stay in it")
        if not is_file(root / path):
            raise InputError(f"{where}: {root / path} does not exist; paths are relative to {root}")
        if path in lines_of:
            raise InputError(f"{where}: {path} was listed before ({lines_of[path]}); keep one of the rows")
        lines_of[path] = where
        listing.append(Entry(path, MODALITIES[modality], category, f"{category}/{instance}" if instance else ""))
    return listing
