"""Folders of classes as they are published: found under any of their names, read into entries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sbirlib.data.layout import Entry, image_files
from sbirlib.data.published.facts import Facts
from sbirlib.errors import InputError


def place(root: str | Path) -> Path:
    found = Path(root).expanduser().resolve()
    if not found.is_dir():
        raise InputError(f"no such folder: {found}")
    return found


def find(root: Path, names: Sequence[str]) -> Path:
    """The first of the folders `names` that is in `root`; those that were resized by others end in _ready."""
    for name in names:
        for folder in (root / name, root / f"{name}_ready"):
            if folder.is_dir():
                return folder
    raise InputError(f"{root} has none of the folders {', '.join(names)}: unpack the published archive there")


def by_class(root: Path, folder: Path, modality: int, facts: Facts) -> list[Entry]:
    """Every image of `folder`/<class>/, under the published name of its class, and of no instance."""
    found = [
        Entry(file.relative_to(root).as_posix(), modality, facts.class_of(inside.name), "")
        for inside in sorted(folder.iterdir())
        if inside.is_dir() and not inside.name.startswith(".")
        for file in sorted(image_files(inside.iterdir()))
    ]
    facts.check((entry.category for entry in found), f"the images in {folder}")
    return found
