"""Published facts of the datasets: classes, lists of unseen classes, and the sizes of the resulting test splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from sbirlib.errors import InputError, nearest


@dataclass(frozen=True)
class Facts:
    """The classes of a dataset, its splits as in a split file, and the classes of folders with another name (`aliases`)."""

    classes: tuple[str, ...]
    splits: Mapping[str, Mapping[str, Any]]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def class_of(self, folder: str) -> str:
        """The class of a folder's name: by `aliases`, else by its letters and digits alone."""
        if folder in self.aliases:
            return self.aliases[folder]
        plain = {letters(name): name for name in self.classes}
        if letters(folder) not in plain:
            raise InputError(f"the folder {folder!r} is of no class{nearest(folder, self.classes)}")
        return plain[letters(folder)]

    def check(self, classes: Iterable[str], subject: str) -> None:
        """Raise an `InputError` that names the published classes missing from `classes`; `subject` begins the message."""
        if missing := sorted(set(self.classes) - set(classes)):
            names = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
            raise InputError(f"{subject} lack {len(missing)} of the {len(self.classes)} published classes: {names}")


def facts(name: str) -> Facts:
    """The facts of "sketchy", "tuberlin" or "quickdraw"; the digest of every list is checked."""
    table = json.loads((files(__package__) / "splits.json").read_text(encoding="utf-8"))[name]
    lists = [(name, table["classes"], table["sha256"])]
    lists += [(f"{name}/{split}", entry["unseen"], entry["sha256"]) for split, entry in table["splits"].items()]
    for where, names, expected in lists:
        if digest(names) != expected:
            raise ValueError(f"the list of classes of {where} was changed: its digest is not the one that is recorded beside it")
    return Facts(tuple(table["classes"]), table["splits"], table.get("photo_folder_aliases", {}))


def digest(names: Iterable[str]) -> str:
    """SHA-256 of the sorted names, one a line."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def letters(name: str) -> str:
    """The letters and digits of a name, in lower case."""
    return "".join(character for character in name.lower() if character.isalnum())
