"""The state of everything that is installed: what can be used, and what stands in the way of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sbirlib import recipe, registry
from sbirlib.errors import InputError
from sbirlib.registry import Entry

State = Literal["ok", "broken", "too new", "taken", "unreadable"]


@dataclass(frozen=True)
class Row:
    """One part, or a distribution whose entry points cannot be read, with its state and the cause of it."""

    kind: str
    part: str
    distribution: str
    version: str
    state: State
    cause: str = ""


def states() -> list[Row]:
    """Import every part that is installed, each on its own, and say how it went."""
    found = registry.found()
    rows = [Row(e.kind, e.name, e.distribution, e.version, *_state(e)) for e in found.entries]
    return rows + [Row("", "", name, "", "unreadable", cause) for name, cause in found.unreadable]


def _state(entry: Entry) -> tuple[State, str]:
    if unmet := registry.unmet(entry.distribution):
        return "too new", unmet
    try:
        if entry.kind == "recipe":
            recipe.Recipe.of(recipe.read(f"{entry.name}@{entry.distribution}"))
        else:
            registry.load(entry.kind, f"{entry.name}@{entry.distribution}")
    except InputError as error:
        return "broken", str(error)
    try:
        registry.entry(entry.kind, entry.name)
    except InputError as error:
        return "taken", str(error)
    return "ok", ""
