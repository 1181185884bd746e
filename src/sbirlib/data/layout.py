"""Entries of a dataset's folder: image paths with modality, category and instance."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sbirlib.data.collection import collection
from sbirlib.data.images import SUFFIXES, image_files, warn_unsupported
from sbirlib.documents import read_rows
from sbirlib.errors import InputError, nearest
from sbirlib.files import is_file
from sbirlib.interfaces import PHOTO, SKETCH

MODALITIES = {"sketch": SKETCH, "photo": PHOTO}
LAYOUT = "<root>/{sketch,photo}/<class>/<file>, or a manifest.csv with the columns path, modality, class, instance_id"
COLUMNS = ("path", "modality", "class", "instance_id")
MAX_HEADER = 65_536  # letters of a manifest's first line
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
    """The entries of every image below `root`, sorted; see `collection`. Paths that lead to no image are entries too, and fail when they are read.

    An image in <root>/<class>/ has that folder's name as its category, and one in <root>/{sketch,photo}/<class>/ too; an image elsewhere has none.
    Where `root` has both folders `sketch` and `photo`, the one of the other modality is left out.
    """
    own, other = sorted(MODALITIES, key=lambda name: MODALITIES[name] != modality)
    sides = all((root / name).is_dir() for name in MODALITIES)
    inside = collection(root, without=other if sides else "")
    warn_unsupported([root / name for name in inside.unsupported])
    return [
        Entry(path, modality, _category(path, own), "")
        for path in sorted([*inside.files, *inside.faults], key=lambda path: path.split("/"))
    ]


def _category(path: str, modality: str) -> str:
    """The category of an image in a collection, by the folders of its path."""
    folders = path.split("/")[:-1]
    return folders[-1] if len(folders) == 1 or (len(folders) == 2 and folders[0] == modality) else ""


def has_manifest(root: Path) -> bool:
    """Whether the folder's manifest.csv is a dataset's, and no other program's: its first line names the columns `path` and `modality`."""
    file = root / "manifest.csv"
    if not is_file(file):
        return False
    with open(file, encoding="utf-8-sig", errors="replace") as text:
        columns = {column.strip().strip('"') for column in text.readline(MAX_HEADER).split(",")}
    return {"path", "modality"} <= columns


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
