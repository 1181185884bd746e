"""Recipes as tables: read by name or from a TOML file, and changed key by key."""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sbirlib import registry
from sbirlib.documents import read_text
from sbirlib.errors import InputError
from sbirlib.files import is_file
from sbirlib.options import missing_object, shown, structure

Table = dict[str, Any]


def read(name: str) -> Table:
    """The tables of a recipe, by its name or by the path of a TOML file."""
    if name.endswith(".toml"):
        text = read_text(name, expected="a recipe, in TOML")
    else:
        entry = registry.entry("recipe", name)
        if reason := registry.unmet(entry.distribution):
            raise InputError(f"recipe {entry.name!r} of {entry.source} cannot be used: {reason}")
        try:
            text = importlib.resources.files(entry.module).joinpath(f"{entry.name}.toml").read_text(encoding="utf-8")
        except (OSError, ImportError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {name!r} of {entry.source} cannot be read: {error}") from error
    try:
        return {"name": name, **tomllib.loads(text)}
    except (ValueError, RecursionError) as error:  # TOML's own errors, and numbers and tables that Python does not read
        raise InputError(f"recipe {name!r} is not valid TOML: {error}") from error


def names_recipe(model: str | Path) -> bool:
    """Whether a model's name is that of a recipe, or of its TOML file, and not of a file."""
    name = str(model)
    return name.endswith(".toml") or (name.partition("@")[0] in registry.list_parts("recipe") and not is_file(model))


def merge(base: Any, change: Any) -> Any:
    """`base` with `change` laid over it: tables key by key (a component of another name replaces), lists of tables item by item.

    >>> merge({"name": "cse", "dim": 512}, {"dim": 64})
    {'name': 'cse', 'dim': 64}
    """
    if isinstance(base, Mapping):
        change = structure(change)
    if isinstance(base, Mapping) and isinstance(change, Mapping):
        if "name" in base and change.get("name", base["name"]) != base["name"]:
            return dict(change)
        return {**base, **{k: merge(base.get(k), v) for k, v in change.items()}}
    if isinstance(base, Mapping) and "name" in base and isinstance(change, str):
        return base if base["name"] == change else {"name": change}
    both = isinstance(base, Sequence) and isinstance(change, Sequence) and not isinstance(change, str)
    if both and len(base) == len(change) and all(isinstance(c, Mapping) for c in change):
        return [merge(b, c) for b, c in zip(base, change, strict=True)]
    return change


def assign(tables: Table, path: str, value: Any) -> Table:
    """A copy of `tables` with one dotted path set, such as `phases.0.steps`."""
    head, _, rest = path.partition(".")
    if not rest:
        return {**tables, head: merge(tables.get(head), value)}
    inner = tables.get(head)
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        number, _, deeper = rest.partition(".")
        if not number.isdecimal() or int(number) >= len(inner):
            there = f"{head}.0" + (f" to {head}.{len(inner) - 1}" if len(inner) > 1 else "")
            raise InputError(f"{path}: {head} has {len(inner)} entries{f', {there}' if inner else ''}")
        items = list(inner)
        item = items[int(number)]
        if deeper and not isinstance(item, Mapping):
            item = {"name": item} if isinstance(item, str) else {}
        items[int(number)] = assign(dict(item), deeper, value) if deeper else merge(item, value)
        return {**tables, head: items}
    if inner is not None and not isinstance(inner, Mapping):
        inner = {"name": inner} if isinstance(inner, str) else {}
    return {**tables, head: assign(dict(inner or {}), rest, value)}


def with_objects(tables: Table, objects: Mapping[str, Any]) -> Table:
    """The tables of a stored recipe with objects in the places that they had, by dotted path or by nested tables.

    Raises InputError for an object without a place.
    """
    flat = _flat(objects)
    for path, value in flat.items():
        if value is None:
            raise InputError(f"{path} = None: expected the object that stood there")
        if not missing_object(_at(tables, path)):
            raise InputError(f"{path!r} was no object in this recipe, so none can be handed over: change options by build, not by load")
        tables = _put(tables, path.split("."), value)
    return tables


def _flat(objects: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in objects.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _at(tables: Any, path: str) -> Any:
    for key in path.split("."):
        tables = tables.get(key) if isinstance(tables, Mapping) else None
    return tables


def _put(tables: Any, keys: Sequence[str], value: Any) -> Any:
    return value if not keys else {**tables, keys[0]: _put(tables[keys[0]], keys[1:], value)}


def tables_of(name: str | Path | Mapping[str, Any] | None) -> Table:
    """The tables of a recipe by name or TOML file, a copy of tables, or none."""
    if isinstance(name, str | Path):
        return read(str(name))
    if name is not None and not isinstance(name, Mapping):
        raise InputError(f"a recipe = {shown(name)}: expected a name, a TOML file, or a table")
    return dict(name or {})


def changed(tables: Table, changes: Mapping[str, Any]) -> tuple[Table, list[str]]:
    """The tables with every change laid over them, and the faults of paths that lead nowhere.

    A list of losses replaces the recipe's own, and then all weigh 1.
    """
    faults: list[str] = []
    losses = structure(changes.get("losses"))
    if isinstance(losses, str | list | tuple):
        phases = tables.get("phases")
        if isinstance(phases, list):
            phases = [{**phase, "weights": {}} if isinstance(phase, Mapping) else phase for phase in phases]
        tables = {**tables, "losses": {}, "phases": phases}
        changes = {**changes, "losses": [losses] if isinstance(losses, str) else list(losses)}
    for path, value in changes.items():
        try:
            if not all(path.split(".")):
                raise InputError(f"{path!r}: expected a key, or keys joined by dots, such as phases.0.steps")
            tables = assign(tables, path, value)
        except RecursionError:
            faults.append(f"{path[:80]}...: too many keys joined by dots")
        except InputError as error:
            faults.append(str(error))
    return tables, faults
