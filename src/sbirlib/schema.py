"""JSON Schema of recipe files and components, by which editors complete and check them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sbirlib import registry
from sbirlib.errors import InputError
from sbirlib.options import REQUIRED, options_of
from sbirlib.phase import Cache, Expansion, Interpolation, Phase, Rule, Validation
from sbirlib.recipe import DEFAULTS, Recipe
from sbirlib.spec import SUPPLIED, component_kind

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
KINDS = ("encoder", "transform", "miner", "loss", "sampler", "optimizer", "schedule", "evaluator")
NUMBER: Schema = {"type": "number"}
RAMP: Schema = {"type": "object", "properties": {"from": NUMBER, "to": NUMBER}, "required": ["from", "to"], "additionalProperties": False}


def recipe_schema() -> Schema:
    """The schema of a recipe file that may name any installed component; imports all of them. Adapters such as `pml` take any option."""
    return {
        "$schema": DRAFT,
        "title": "sbirlib recipe",
        **_table(Recipe, "", {
            **{kind: _of_kind(kind) for kind in ("encoder", "transform", "sampler")},
            "miner": _or_none(_of_kind("miner")),
            "losses": _collection("loss"),
            "evaluators": _collection("evaluator"),
            "interpolate": _or_none(_table(Interpolation, "", {})),
            "expansion": _or_none(_table(Expansion, "", {})),
            "validate": _or_none(_table(Validation, "", {}, required=["every"])),
            "phases": {"type": "array", "items": _phase()},
        }),
        "required": ["encoder"],
        "$defs": {kind: _component(kind) for kind in KINDS},
    }  # fmt: skip


def component_schema(kind: str, name: str) -> Schema:
    """The schema of one component's table, with those of the components that may stand inside it."""
    table = _component_table(kind, name)
    inner = {k for option in options_of(registry.load(kind, name)).values() if (k := component_kind(option))}
    return {"$schema": DRAFT, "title": f"{kind} {name}", **table} | ({"$defs": {k: _component(k) for k in inner}} if inner else {})


def _component_table(kind: str, name: str) -> Schema:
    supplied = SUPPLIED if kind == "loss" else ()
    return _table(registry.load(kind, name), name, {}, required=["name"], supplied=supplied)


def _phase() -> Schema:
    rule = _table(Rule, "", {}, required=["of"])
    weight = {"anyOf": [NUMBER, RAMP, {"type": "object", "additionalProperties": {"anyOf": [NUMBER, RAMP]}}]}
    return _table(Phase, "", {
        "weights": {"type": "object", "additionalProperties": weight},
        "optimizer": _of_kind("optimizer"),
        "schedule": _of_kind("schedule"),
        "sampler": _or_none(_of_kind("sampler")),
        "discriminator": _or_none(_of_kind("optimizer")),
        "parameters": {"type": "array", "items": rule},
        "cache": _or_none(_table(Cache, "", {}, required=["module"])),
    }, required=["steps"])  # fmt: skip


def _component(kind: str) -> Schema:
    """A component of a kind: a name, or a table whose other keys depend on its name."""
    names = [entry.name for entry in registry.scan().entries if entry.kind == kind]
    tables = []
    for name in dict.fromkeys(names):
        try:
            tables.append(_component_table(kind, name))
        except InputError:  # one that cannot be imported cannot be used
            continue
    adapter: Schema = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^[^:]+:.+"}}, "required": ["name"]}
    default = [_component_table(kind, DEFAULTS[kind]) | {"required": []}] if kind in DEFAULTS else []  # a table may leave its name out
    return {"anyOf": [{"enum": names}, {"type": "string", "pattern": "[:@]"}, *default, *tables, adapter]}


def _collection(kind: str) -> Schema:
    """Components by their names in a recipe; the name in the table is that of the recipe, unless it is set."""
    keyed = {}
    for name in registry.list_parts(kind):
        try:
            keyed[name] = _component_table(kind, name) | {"required": []}
        except InputError:
            continue
    return {
        "anyOf": [
            {"type": "array", "items": _of_kind(kind)},
            {"type": "object", "properties": keyed, "patternProperties": {":": {"type": "object"}}, "additionalProperties": _of_kind(kind)},
        ]
    }


def _table(
    constructor: Callable[..., Any],
    name: str,
    overrides: Mapping[str, Schema],
    *,
    required: list[str] | None = None,
    supplied: tuple[str, ...] = (),
) -> Schema:
    """The schema of a table with the constructor's options, and a name where it is a component."""
    declared = options_of(constructor)
    properties: Schema = {"name": {"const": name}} if name else {}
    for option in declared.values():
        if option.name in overrides:
            properties[option.name] = overrides[option.name] | ({"description": option.meaning} if option.meaning else {})
        elif kind := component_kind(option):
            properties[option.name] = _of_kind(kind)
        else:
            properties[option.name] = option.schema()
    needed = [o.name for o in declared.values() if name and o.default is REQUIRED and o.name not in supplied]
    return {"type": "object", "properties": properties, "required": [*(required or []), *needed], "additionalProperties": False}


def _of_kind(kind: str) -> Schema:
    return {"$ref": f"#/$defs/{kind}"}


def _or_none(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}
