"""Status of every installed plugin, with the reason where one cannot be used; and the distributions that a recipe uses."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from sbirlib import recipe, recipe_file, registry
from sbirlib.errors import InputError
from sbirlib.recipe import Recipe
from sbirlib.registry import Entry
from sbirlib.spec import Spec

logger = logging.getLogger(__name__)
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


def used_by(value: Any) -> list[str]:
    """The distributions, with versions, whose components a recipe uses, or any part of one.

    >>> used_by(recipe.Recipe.of(recipe_file.read("mathm")))
    ['sbirlib ...', 'sbirlib-mathm ...']
    """
    return sorted(_sources(value))


def announce(value: Recipe, source: str | Path) -> None:
    """Log the distributions, other than this one, whose code a recipe from a file will run."""
    if others := [distribution for distribution in used_by(value) if not distribution.startswith("sbirlib ")]:
        logger.info("%s uses %s", Path(source).name, ", ".join(others))


def _sources(value: Any) -> set[str]:
    if isinstance(value, Spec):
        own = set() if value.instance is not None else {registry.entry(value.kind, value.name.partition(":")[0]).source}
        return own.union(*map(_sources, value.options.values()))
    if isinstance(value, Mapping):
        return set().union(*map(_sources, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_sources, value))
    return set().union(*(_sources(getattr(value, f.name)) for f in fields(value))) if is_dataclass(value) else set()
