"""A recipe is data: parts by name with their options, and the phases that train them."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sbirlib import registry
from sbirlib.errors import InputError, nearest

FORMAT = 1
Table = dict[str, Any]
FILLED = ("dim", "categories", "instances")
DEFAULTS: Table = {"transform": {"name": "sbir"}, "sampler": {"name": "balanced"}}
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Ramp:
    """A weight that moves linearly over its phase."""

    start: float
    end: float

    @classmethod
    def of(cls, value: Any, where: str) -> Ramp:
        """From a number, which stays, or {from, to}."""
        if isinstance(value, Mapping):
            _known(value, ("from", "to"), where)
            if set(value) == {"from", "to"}:
                return cls(_number(value["from"], where), _number(value["to"], where))
            raise InputError(f"{where} is a ramp with both 'from' and 'to', got {dict(value)!r}")
        return cls(_number(value, where), _number(value, where))

    def at(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True)
class Rule:
    """What holds for the parameters `of` a name, a dotted prefix or a wildcard; later rules win.

    `lr`, `weight_decay` and `betas` replace the optimizer's own, `frozen` is a number of steps or true for the whole phase, `eval` keeps the
    batch norms in eval mode.
    """

    of: str
    lr: float | None = None
    weight_decay: float | None = None
    betas: tuple[float, float] | None = None
    frozen: bool | int | None = None
    eval: bool | None = None


@dataclass(frozen=True)
class Phase:
    """A stretch of training: `weights` says which losses act, `encoder` names the one part of the encoder that is run and trained."""

    steps: int
    weights: dict[str, Any] = field(default_factory=dict)
    optimizer: Table = field(default_factory=lambda: {"name": "adam"})
    schedule: Table = field(default_factory=lambda: {"name": "constant"})
    parameters: tuple[Rule, ...] = ()
    sampler: Table | None = None
    encoder: str | None = None
    discriminator: Table | None = None
    clip: float | None = None

    def weight(self, loss: str, term: str | None, progress: float) -> float:
        """The weight of one term of a loss at this point of the phase."""
        value = self.weights[loss]
        if isinstance(value, Mapping) and not set(value) <= {"from", "to"}:
            if term not in value:
                raise InputError(f"weights.{loss} names no term {term!r}{nearest(str(term), value)}")
            value = value[term]
        return Ramp.of(value, f"weights.{loss}").at(progress)


@dataclass(frozen=True)
class Recipe:
    """A method, whole: it rebuilds the pipeline, and is stored as JSON in every checkpoint and result."""

    encoder: Table
    name: str = "composed"
    format: int = FORMAT
    seed: int = 0
    precision: str = "float32"
    transform: Table = field(default_factory=lambda: DEFAULTS["transform"])
    miner: Table | None = None
    losses: dict[str, Table] = field(default_factory=dict)
    sampler: Table = field(default_factory=lambda: DEFAULTS["sampler"])
    phases: tuple[Phase, ...] = ()
    evaluators: dict[str, Table] = field(default_factory=lambda: {"category": {"name": "category"}})

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Recipe:
        """From plain tables, as TOML or JSON gives them; refuses unknown keys by name, with the nearest."""
        _known(tables, [f.name for f in fields(cls)], "recipe")
        if tables.get("format", FORMAT) != FORMAT:
            raise InputError(f"this recipe has format {tables['format']}, this version of sbirlib reads format {FORMAT}: upgrade sbirlib")
        if "encoder" not in tables:
            raise InputError("a recipe needs an encoder")
        given = dict(tables)
        for kind in ("encoder", "transform", "miner", "sampler"):
            if given.get(kind) is not None:
                given[kind] = _table(given[kind], kind)
        for plural in ("losses", "evaluators"):
            given[plural] = _collection(given.get(plural, {}) or {}, plural)
        given["evaluators"] = given["evaluators"] or {"category": {"name": "category"}}
        phases = given.get("phases") or [{"steps": 1000}]
        given["phases"] = tuple(_phase(p, f"phases.{i}", given["losses"]) for i, p in enumerate(phases))
        if given.get("precision", "float32") not in PRECISIONS:
            raise InputError(f"unknown precision {given['precision']!r}{nearest(str(given['precision']), PRECISIONS)}")
        return cls(**given)

    def tables(self) -> Table:
        """Plain tables: what `Recipe.of` reads, and what JSON stores."""
        plain: Table = json.loads(json.dumps(asdict(self)))
        for phase in plain["phases"]:
            phase["parameters"] = [{k: v for k, v in rule.items() if v is not None} for rule in phase["parameters"]]
        return plain

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.tables(), sort_keys=True).encode()).hexdigest()

    def check(self) -> Recipe:
        """Refuse unknown parts, options and schedules before data or weights are touched; returns the recipe with every default filled in."""
        if not self.losses:
            raise InputError("a recipe needs at least one loss: losses=['cross_entropy']")
        resolved = self.tables()
        for kind in ("encoder", "transform", "miner", "sampler"):
            if resolved[kind] is not None:
                resolved[kind] = _resolved(kind, resolved[kind])
        resolved["losses"] = {k: _resolved("loss", t) for k, t in resolved["losses"].items()}
        resolved["evaluators"] = {k: _resolved("evaluator", t) for k, t in resolved["evaluators"].items()}
        for phase in resolved["phases"]:
            for kind, what in (
                ("optimizer", "optimizer"),
                ("schedule", "schedule"),
                ("sampler", "sampler"),
                ("discriminator", "optimizer"),
            ):
                if phase[kind] is not None:
                    phase[kind] = _resolved(what, phase[kind])
        return Recipe.of(json.loads(json.dumps(resolved)))


def read(name: str) -> Table:
    """The tables of a recipe, by its name or by the path of a TOML file."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"there is no recipe file {name!r}")
        text = path.read_text(encoding="utf-8")
    else:
        entry = registry.entry("recipe", name)
        if reason := registry.unmet(entry.distribution):
            raise InputError(f"recipe {entry.name!r} of {entry.source} cannot be used: {reason}")
        try:
            text = importlib.resources.files(entry.module).joinpath(f"{entry.name}.toml").read_text(encoding="utf-8")
        except (OSError, ImportError) as error:
            raise InputError(f"recipe {name!r} of {entry.source} cannot be read: {error}") from error
    try:
        return {"name": name, **tomllib.loads(text)}
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {name!r} is not valid TOML: {error}") from error


def merge(base: Any, change: Any) -> Any:
    """`base` with `change` laid over it: tables key by key (a part of another name replaces), lists of tables item by item.

    >>> merge({"name": "cse", "dim": 512}, {"dim": 64})
    {'name': 'cse', 'dim': 64}
    """
    if isinstance(base, Mapping) and isinstance(change, Mapping):
        if "name" in base and change.get("name", base["name"]) != base["name"]:
            return dict(change)
        return {**base, **{k: merge(base.get(k), v) for k, v in change.items()}}
    if isinstance(base, Mapping) and isinstance(change, str):
        return base if base.get("name") == change else {"name": change}
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
        if not number.isdigit() or int(number) >= len(inner):
            raise InputError(f"{path}: {head} has {len(inner)} entries, counted from 0")
        items = list(inner)
        items[int(number)] = assign(items[int(number)], deeper, value) if deeper else merge(items[int(number)], value)
        return {**tables, head: items}
    if inner is not None and not isinstance(inner, Mapping):
        inner = {"name": inner} if isinstance(inner, str) else {}
    return {**tables, head: assign(dict(inner or {}), rest, value)}


def _phase(table: Any, where: str, losses: Mapping[str, Any]) -> Phase:
    if isinstance(table, Phase):
        table = asdict(table)
    if not isinstance(table, Mapping):
        raise InputError(f"{where} is a table with at least 'steps', got {table!r}")
    _known(table, [f.name for f in fields(Phase)], where)
    given = dict(table)
    steps = given.get("steps")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise InputError(f"{where}.steps is a whole number of at least 0 (none leaves the phase out), got {steps!r}")
    given["weights"] = dict(given.get("weights") or dict.fromkeys(losses, 1.0))
    for name in given["weights"]:
        if name not in losses:
            raise InputError(f"{where}.weights names the loss {name!r}, which the recipe does not have{nearest(name, losses)}")
    for kind in ("optimizer", "schedule", "sampler", "discriminator"):
        if given.get(kind) is not None:
            given[kind] = _table(given[kind], f"{where}.{kind}")
    given["parameters"] = tuple(_rule(r, f"{where}.parameters.{i}") for i, r in enumerate(given.get("parameters", ())))
    phase = Phase(**given)
    for name, value in phase.weights.items():
        for weight in value.values() if isinstance(value, Mapping) and not set(value) & {"from", "to"} else [value]:
            Ramp.of(weight, f"{where}.weights.{name}")
    return phase


def _rule(table: Any, where: str) -> Rule:
    if isinstance(table, Rule):
        return table
    if not isinstance(table, Mapping) or not isinstance(table.get("of"), str):
        raise InputError(f"{where} is a table with 'of' (a parameter name, prefix or wildcard), got {table!r}")
    _known(table, [f.name for f in fields(Rule)], where)
    betas = table.get("betas")
    if betas is not None and (isinstance(betas, str) or len(betas) != 2):
        raise InputError(f"{where}.betas are two numbers, as in [0.5, 0.999], got {betas!r}")
    return Rule(**{**table, "betas": None if betas is None else tuple(betas)})


def _table(value: Any, where: str) -> Table:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return dict(value)
    raise InputError(f"{where} is a name, or a table with a name and options; got {value!r}")


def _collection(value: Any, where: str) -> dict[str, Table]:
    """Parts by the name they have in this recipe, from a list of names or tables, or from a table of tables."""
    if isinstance(value, Mapping):
        items = {k: ({"name": k, **v} if isinstance(v, Mapping) else v) for k, v in value.items() if v is not None}
    else:
        items = {(v if isinstance(v, str) else v["name"]): v for v in value}
    for name in items:
        if "." in name:
            raise InputError(f"{where}: the name {name!r} holds a dot, which parameter rules could not tell apart: give the part another")
    return {name: _table(v, f"{where}.{name}") for name, v in items.items()}


def _resolved(kind: str, table: Table) -> Table:
    if table["name"].startswith("object:"):
        return table
    registry.check(kind, table, filled=FILLED if kind == "loss" else ())
    filled = {**registry.defaults(kind, table["name"]), **table}
    inner = {k: found for k, p in registry.options(kind, table["name"]).items() if (found := registry.held(p))}
    return {k: _resolved(inner[k], v) if k in inner and isinstance(v, dict) and "name" in v else v for k, v in filled.items()}


def _known(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in table:
        if key not in keys:
            raise InputError(f"{where} has no key {key!r}{nearest(key, keys)}")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where} is a number, a ramp {{from, to}}, or a table of those by term; got {value!r}")
    return float(value)
