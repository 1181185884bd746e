"""Status of every installed plugin, with the reason where one cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sbirlib import recipe, recipe_file, registry
from sbirlib.errors import InputError
from sbirlib.registry import Entry

State = Literal["ok", "broken", "too new", "taken", "unreadable"]


@dataclass(frozen=True)
class Row:
    """One component, or a distribution whose entry points cannot be read, with its state and the cause."""

    kind: str
    name: str
    distribution: str
    version: str
    state: State
    cause: str = ""


def states() -> list[Row]:
    """Import every installed component, each on its own; one row for each."""
    scan = registry.scan()
    rows = [Row(e.kind, e.name, e.distribution, e.version, *_state(e)) for e in scan.entries]
    return rows + [Row("", "", name, "", "unreadable", cause) for name, cause in scan.unreadable]


def _state(entry: Entry) -> tuple[State, str]:
    if unmet := registry.unmet(entry.distribution):
        return "too new", unmet
    try:
        if entry.kind == "recipe":
            recipe.Recipe.of(recipe_file.read(f"{entry.name}@{entry.distribution}"))
        else:
            registry.import_entry(entry.kind, f"{entry.name}@{entry.distribution}")
    except InputError as error:
        return "broken", str(error)
    try:
        registry.entry(entry.kind, entry.name)
    except InputError as error:
        return "taken", str(error)
    return "ok", ""
