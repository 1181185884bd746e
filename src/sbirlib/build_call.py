"""A recipe in short: the shortest `build` call that makes it, and its parts."""

from collections.abc import Mapping
from typing import Any

from sbirlib import recipe_file
from sbirlib.errors import InputError
from sbirlib.recipe import Recipe


def build_call(recipe: Recipe) -> str:
    """The call that makes a recipe: its name and the differences from it, or all of it."""
    try:
        base = Recipe.of(recipe_file.read(recipe.name)).tables()
    except InputError:
        return f"build({recipe.tables()!r})"
    try:
        changes = difference(base, recipe.tables())
    except LookupError:  # a key was removed, which no change can express
        return f"build({recipe.tables()!r})"
    return f"build({', '.join([repr(recipe.name), *(['**' + repr(changes)] if changes else [])])})"


def difference(base: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys whose values differ; a table of another component, or a list of another length, counts whole."""
    changes: dict[str, Any] = {}
    for key, value in now.items():
        before, path = base.get(key), f"{prefix}{key}"
        if before == value:
            continue
        if isinstance(before, list) and isinstance(value, list) and len(before) == len(value) and all(isinstance(v, dict) for v in value):
            for number, (old, new) in enumerate(zip(before, value, strict=True)):
                if not old.keys() <= new.keys():
                    raise LookupError(path)
                changes |= difference(old, new, f"{path}.{number}.")
        elif isinstance(before, dict) and isinstance(value, dict) and before.get("name") == value.get("name"):
            if not before.keys() <= value.keys():
                raise LookupError(path)
            changes |= difference(before, value, f"{path}.")
        else:
            changes[path] = value
    return changes


def parts_of(recipe: Recipe) -> list[tuple[str, str, dict[str, Any]]]:
    """The kind, name and options of the components that make vectors, triplets and losses."""
    specs = {"encoder": recipe.encoder, "transform": recipe.transform, "miner": recipe.miner}
    specs |= {f"loss {name}": spec for name, spec in recipe.losses.items()}
    return [(kind, spec.name, spec.table()) for kind, spec in specs.items() if spec is not None]
