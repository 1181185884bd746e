"""Which image files a dataset's folder holds, and what each one is."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sbirlib.data.images import SUFFIXES
from sbirlib.errors import InputError, nearest
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
    """What `root` holds, from its manifest where there is one, else from its folders; an `InputError` where it has neither."""
    if not root.is_dir():
        raise InputError(f"no such folder: {root}; expected {LAYOUT}")
    if (root / "manifest.csv").is_file():
        return from_manifest(root)
    if not any((root / m).is_dir() for m in MODALITIES):
        raise InputError(f"{root} has neither a sketch nor a photo folder; expected {LAYOUT}")
    return from_folders(root)


def from_folders(root: Path) -> list[Entry]:
    """<root>/{sketch,photo}/<class>/<file>; the sketch X.png, X-2.png or X_2.png belongs to the photo X.* of its class."""
    found: list[Entry] = []
    for name, modality in MODALITIES.items():
        folder = root / name
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        for place in (p for p in inside if p.is_dir() and not p.name.startswith(".")):
            files = sorted(image_files(place.iterdir()))
            if not files:
                raise InputError(f"{place} holds no image ({', '.join(sorted(SUFFIXES))}): add some, or remove the folder")
            found += [Entry(f.relative_to(root).as_posix(), modality, place.name, "") for f in files]
    return paired(found)


def paired(found: list[Entry]) -> list[Entry]:
    """The entries with sketches and their photos, matched by file name within the class, sharing an instance."""
    photos: dict[tuple[str, str], list[Entry]] = {}
    for entry in found:
        if entry.modality == PHOTO:
            photos.setdefault((entry.category, Path(entry.path).stem), []).append(entry)
    instance: dict[str, str] = {}
    for entry in found:
        if entry.modality == SKETCH:
            stem = Path(entry.path).stem
            numbered = NUMBERED.fullmatch(stem)
            own = photos.get((entry.category, stem)) or photos.get((entry.category, numbered[1] if numbered else ""), [])
            if len(own) > 1:
                both = " or ".join(p.path for p in own)
                raise InputError(f"the sketch {entry.path} may belong to {both}: rename one, or say which in a manifest.csv")
            instance |= {e.path: own[0].path for e in (entry, *own)} if own else {}
    return [e._replace(instance=instance.get(e.path, "")) for e in found]


def from_manifest(root: Path) -> list[Entry]:
    """The rows of <root>/manifest.csv; an instance_id names an instance within its class, and may be left empty."""
    file = root / "manifest.csv"
    with file.open(newline="", encoding="utf-8-sig") as lines:
        table = csv.DictReader(lines)
        missing = [c for c in COLUMNS if c not in (table.fieldnames or ())]
        if missing:
            raise InputError(f"{file} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
        rows = [(f"{file}, line {table.line_num}", *((row[c] or "").strip() for c in COLUMNS)) for row in table]
    seen: dict[str, str] = {}
    found = []
    for where, path, modality, category, instance in rows:
        if modality not in MODALITIES:
            raise InputError(f"{where}: unknown modality {modality!r}{nearest(modality, MODALITIES)}")
        if not category:
            raise InputError(f"{where}: the class of {path} is empty; give every row a class")
        if not (root / path).is_file():
            raise InputError(f"{where}: {root / path} does not exist; paths are relative to {root}")
        if path in seen:
            raise InputError(f"{where}: {path} was listed before ({seen[path]}); keep one of the rows")
        seen[path] = where
        found.append(Entry(path, MODALITIES[modality], category, f"{category}/{instance}" if instance else ""))
    return found


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Those that an image's ending marks, in any case; hidden files are passed over."""
    return [p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()]


def image_tree(root: Path) -> list[Path]:
    """Every image in `root` and the folders below it, sorted; hidden folders and links to folders are passed over."""
    found: list[Path] = []
    for place, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += image_files(Path(place) / n for n in names)
    return sorted(found)
