"""Published folders of classes: look-up under any of their names, and their entries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sbirlib.data.images import image_files, warn_unsupported
from sbirlib.data.layout import Entry
from sbirlib.data.published.facts import Facts
from sbirlib.errors import InputError


def place(root: str | Path) -> Path:
    """The absolute path of a dataset's folder, which must exist."""
    path = Path(root).expanduser().resolve()
    if not path.is_dir():
        raise InputError(f"no such folder: {path}")
    return path


def find(root: Path, names: Sequence[str]) -> Path:
    """The first of the folders `names` that is in `root`; the copies that others resized end in _ready."""
    for name in names:
        for folder in (root / name, root / f"{name}_ready"):
            if folder.is_dir():
                return folder
    raise InputError(f"{root} has none of the folders {', '.join(names)}: unpack the published archive there")


def by_class(root: Path, folder: Path, modality: int, facts: Facts) -> list[Entry]:
    """The entries of every image of `folder`/<class>/, with the published name of its class, and without instance."""
    unsupported: list[Path] = []
    rows = [
        Entry(file.relative_to(root).as_posix(), modality, facts.class_of(class_folder.name), "")
        for class_folder in sorted(folder.iterdir())
        if class_folder.is_dir() and not class_folder.name.startswith(".")
        for file in sorted(image_files(class_folder.iterdir(), unsupported))
    ]
    warn_unsupported(unsupported)
    facts.check((entry.category for entry in rows), f"the images in {folder}")
    return rows
