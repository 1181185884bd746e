"""Image files of a collection as it lies on disk: folders at any depth, links to files and to folders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sbirlib.data.images import SUFFIXES, UNSUPPORTED


@dataclass
class Collection:
    """Files below `root` by their paths from there, with slashes.

    `files` have the suffix of a readable image, in any case, `unsupported` that of another image. `faults` are no files, but should have led to some:
    folders that cannot be listed, and links that lead nowhere and may have led to an image or to a folder.
    """

    root: Path
    files: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def collection(root: Path, *, without: str = "") -> Collection:
    """All visible image files below a folder, sorted; hidden files and folders are ignored, and so is the folder `without` in it.

    Each folder is visited once: a link to one that is visited anyhow, or that holds `root`, adds nothing.
    """
    result = Collection(root)
    visited: set[tuple[int, int]] = set()
    folders, links = [""], list[str]()
    while folders or links:
        name = folders.pop() if folders else links.pop(0)  # links last, so that a photo has the path of its own folder where there is one
        try:
            place = os.stat(root / name)
            if (place.st_dev, place.st_ino) in visited:
                continue
            visited.add((place.st_dev, place.st_ino))
            with os.scandir(root / name) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError:
            result.faults.append(name)
            continue
        for entry in visible:
            path = f"{name}/{entry.name}" if name else entry.name
            if path != without:
                _sort_in(entry, path, result, folders, links)
        links.sort()
    for names in (result.files, result.unsupported, result.faults):
        names.sort(key=lambda path: path.split("/"))
    return result


def _sort_in(entry: os.DirEntry[str], path: str, result: Collection, folders: list[str], links: list[str]) -> None:
    """Append an entry of a folder to the list where it belongs."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if entry.is_dir(follow_symlinks=False):
        folders.append(path)
    elif entry.is_symlink() and _is_folder(entry):
        if not result.root.resolve().is_relative_to(os.path.realpath(entry.path)):
            links.append(path)
    elif suffix in SUFFIXES:
        result.files.append(path)
    elif suffix in UNSUPPORTED:
        result.unsupported.append(path)
    elif not suffix and entry.is_symlink() and not os.path.exists(entry.path):
        result.faults.append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
