"""Recipes: components by name with their options, and the phases that train them, read from tables and held to their types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval, MinLen

from sbirlib.errors import InputError, nearest
from sbirlib.options import Option, Reader, missing_object, plain, read_options, refuse, shown, structure
from sbirlib.phase import Cache, Expansion, Interpolation, Phase, Ramp, Rule, Validation, Weight
from sbirlib.spec import SUPPLIED, Spec, plain_table

FORMAT = 1
Table = dict[str, Any]
DEFAULTS = {"transform": "sbir", "sampler": "balanced", "optimizer": "adam", "schedule": "constant"}
NUMBER = Option("weight", float, 0.0, "")
# keys that recipes of earlier versions lack, with their defaults: left out there, so that digests of recipes and checkpoints stay
LATER: Table = {
    "compile": False,
    "validate": None,
    "interpolate": None,
    "expansion": None,
    "ema": None,
    "accumulate": 1,
    "chunk": None,
    "batch_norm": "global",
    "cache": None,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method, whole, with every default filled in: it rebuilds the pipeline, and is stored as JSON in every checkpoint and result.

    With neither losses nor phases (`phases = []`) there is nothing to train: the encoder searches as it is.

    Args:
        encoder: images to vectors
        name: name of the recipe
        format: version of this format
        seed: seed of initial values, batches and augmentation
        precision: arithmetic of the encoder in training
        compile: compile the encoder for training (torch.compile), where that pays
        validate: validation during training, by which the best model is kept
        interpolate: move of a trained module back to its pretrained weights, by a share that validation chooses
        expansion: query expansion, in evaluation and in search
        ema: decay of a moving average of the weights, which is validated and is the trained model; none takes the weights themselves
        transform: preparation and augmentation of images
        miner: choice of triplets
        losses: losses by their names in the recipe
        sampler: batches
        phases: phases of training, one after another
        evaluators: evaluators by their names in the recipe
    """

    encoder: Spec
    name: Annotated[str, MinLen(1)] = "composed"
    format: int = FORMAT
    seed: Annotated[int, Ge(0)] = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    validate: Validation | None = None
    interpolate: Interpolation | None = None
    expansion: Expansion | None = None
    ema: Annotated[float, Interval(ge=0, lt=1)] | None = None
    transform: Spec
    miner: Spec | None = None
    losses: dict[str, Spec]
    sampler: Spec
    phases: tuple[Phase, ...]
    evaluators: dict[str, Spec]

    @classmethod
    def of(cls, tables: Mapping[str, Any], faults: Sequence[str] = ()) -> Recipe:
        """A recipe from plain tables, as TOML or JSON gives them, where any component may be an object.

        Imports the components that it names. Raises one InputError with every wrong name and value in it, each with its path, after `faults`,
        those of earlier reading.
        """
        if not isinstance(tables, Mapping):
            raise InputError(f"a recipe = {shown(tables)}: expected a table")
        faults = list(faults)
        try:
            values = cls._read(tables, faults)
        except RecursionError:
            raise InputError("this recipe holds tables or lists inside each other that are too deep to read: flatten them") from None
        refuse(faults)
        return cls(**values)

    @classmethod
    def _read(cls, tables: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
        version = plain(tables.get("format", FORMAT))
        if not isinstance(version, int) or version != FORMAT:
            raise InputError(f"format = {shown(version)}: this version of sbirlib reads format {FORMAT}: upgrade sbirlib")
        losses = _specs("loss", tables.get("losses"), "losses", faults, supplied=SUPPLIED)
        trains = bool(losses) or structure(tables.get("phases")) not in ([], ())
        if trains and not losses and not faults:
            faults.append(
                "losses: a recipe needs at least one loss, such as losses=['cross_entropy'], or no phases (phases=[]), where nothing is to be trained"
            )
        readers: dict[str, Reader] = {
            "encoder": partial(Spec.read, "encoder"),
            "transform": partial(_or_default, "transform"),
            "sampler": partial(_or_default, "sampler"),
            "miner": partial(_optional, partial(Spec.read, "miner")),
            "losses": lambda *_: losses,  # read before, for phases weight them
            "evaluators": partial(_specs, "evaluator"),
            "validate": partial(_optional, partial(_record, Validation, "validate", "{every = 100}")),
            "interpolate": partial(_optional, partial(_record, Interpolation, "interpolate", "{module = 'encoder.backbone'}")),
            "expansion": partial(_optional, partial(_record, Expansion, "expansion", "{photos = 10}")),
            "phases": partial(_phases, losses),
        }
        complete = {"transform": {}, "sampler": {}, "losses": {}, **tables}
        if _empty(complete.get("evaluators")):
            complete["evaluators"] = {"category": {"name": "category"}}
        if trains and _empty(complete.get("phases")):
            complete["phases"] = [{"steps": 1000}]
        if "encoder" not in tables:
            faults.append("encoder: a recipe needs an encoder, such as encoder='backbone'")
        return read_options(cls, complete, "", faults, owner="recipe", readers=readers, supplied=("encoder",))

    def tables(self) -> Table:
        """Plain tables, as `Recipe.of` reads and JSON stores them."""
        return _table(self, omit=LATER)

    @property
    def digest(self) -> str:
        """SHA-256 of the tables as JSON with sorted keys."""
        return hashlib.sha256(json.dumps(self.tables(), sort_keys=True).encode()).hexdigest()


def _table(value: Recipe | Phase, *, omit: Mapping[str, Any]) -> Table:
    """The keys of a recipe or a phase; those of `omit` only where they are not at their default."""
    table = {f.name: getattr(value, f.name) for f in fields(value)}
    return {name: _plain(v) for name, v in table.items() if name not in omit or v != omit[name]}


def _plain(value: Any) -> Any:
    if isinstance(value, Ramp):
        return {"from": value.start, "to": value.end}
    if isinstance(value, Rule | Validation | Cache | Interpolation | Expansion):
        return {f.name: _plain(v) for f in fields(value) if (v := getattr(value, f.name)) is not None}
    if isinstance(value, Phase):
        return _table(value, omit=LATER)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else plain_table(value)


def _or_default(kind: str, value: Any, path: str, faults: list[str]) -> Spec | None:
    """A component; a table without a name has options of the kind's default."""
    value = structure(value)
    if isinstance(value, Mapping) and not missing_object(value):
        value = {"name": DEFAULTS[kind], **value}
    return Spec.read(kind, value, path, faults)


def _optional(reader: Reader, value: Any, path: str, faults: list[str]) -> Spec | None:
    spec: Spec | None = None if structure(value) is None else reader(value, path, faults)
    return spec


def _empty(value: Any) -> bool:
    """Whether a key is left to its default: missing, none, or an empty table or list."""
    value = structure(value)
    return value is None or (isinstance(value, Mapping | list | tuple) and not value)


def _specs(kind: str, value: Any, path: str, faults: list[str], *, supplied: Sequence[str] = ()) -> dict[str, Spec | None]:
    """Components by their names in the recipe, from a list of names, tables or objects, or from a table of those; None for a faulty one."""
    value = structure(value)
    if _empty(value):
        return {}
    if isinstance(value, str) and value:
        value = [value]
    if isinstance(value, Mapping):
        items = [(name, _with_name(name, item)) for name, item in value.items() if structure(item) is not None]
    elif isinstance(value, list | tuple):
        items = [(_name(item), item) for item in value]
    else:
        faults.append(f"{path} = {shown(value)}: expected a list of names or tables, or a table of tables by name")
        return {}
    specs: dict[str, Spec | None] = {}
    for name, item in items:
        if not isinstance(name, str) or not name:
            faults.append(f"{path}: a name = {shown(name)}: expected a text")
        elif "." in name:
            faults.append(f"{path}: the name {name!r} holds a dot, which parameter rules could not tell apart: give the {kind} another")
        elif name in specs:
            faults.append(f"{path}: two are called {name!r}: give each a name of its own, in a table {{NAME: {{'name': {name!r}, ...}}}}")
        else:
            specs[name] = Spec.read(kind, item, f"{path}.{name}", faults, supplied=supplied)
    return specs


def _with_name(name: str, item: Any) -> Any:
    """A table under its name in the recipe is of the component of that name, unless it says another."""
    return {"name": name, **item} if isinstance(item, Mapping) and not missing_object(item) else item


def _name(item: Any) -> str:
    if isinstance(item, Mapping):
        return str(item.get("name", item.get("object", "?")))
    return item if isinstance(item, str) else type(item).__name__


def _phases(losses: Mapping[str, Spec | None], value: Any, path: str, faults: list[str]) -> tuple[Phase, ...]:
    value = structure(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        faults.append(f"{path} = {shown(value)}: expected a list of tables, each with at least 'steps'")
        return ()
    return tuple(p for i, table in enumerate(value) if (p := _phase(losses, table, f"{path}.{i}", faults)) is not None)


def _phase(losses: Mapping[str, Spec | None], table: Any, path: str, faults: list[str]) -> Phase | None:
    if not isinstance(table, Mapping):
        faults.append(f"{path} = {shown(table)}: expected a table with at least 'steps'")
        return None
    readers: dict[str, Reader] = {
        "weights": partial(_weights, losses),
        "optimizer": partial(_or_default, "optimizer"),
        "schedule": partial(_or_default, "schedule"),
        "sampler": partial(_optional, partial(_or_default, "sampler")),
        "discriminator": partial(_optional, partial(_or_default, "optimizer")),
        "parameters": _rules,
        "cache": partial(_optional, partial(_record, Cache, "cache", "{module = 'encoder.backbone'}")),
    }
    complete = {"optimizer": {}, "schedule": {}, **table}
    if _empty(complete.get("weights")):
        complete["weights"] = dict.fromkeys(losses, 1.0)
    before = len(faults)
    values = read_options(Phase, complete, path, faults, owner="a phase", readers=readers)
    return Phase(**values) if len(faults) == before else None


def _record(kind: Callable[..., Any], owner: str, example: str, value: Any, path: str, faults: list[str]) -> Any:
    """A record of plain values, such as `Validation`, from its table."""
    value = structure(value)
    if not isinstance(value, Mapping):
        faults.append(f"{path} = {shown(value)}: expected a table, such as {example}")
        return None
    before = len(faults)
    values = read_options(kind, value, path, faults, owner=owner)
    return kind(**values) if len(faults) == before else None


def _rules(value: Any, path: str, faults: list[str]) -> tuple[Rule, ...]:
    value = structure(value)
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(rule, Mapping) for rule in value):
        faults.append(f"{path} = {shown(value)}: expected a list of tables, each with 'of' and settings")
        return ()
    rules = []
    for number, table in enumerate(value):
        before = len(faults)
        values = read_options(Rule, table, f"{path}.{number}", faults, owner="a rule")
        if len(faults) == before:
            betas = values.get("betas")
            rules.append(Rule(**{**values, "betas": None if betas is None else tuple(betas)}))
    return tuple(rules)


def _weights(losses: Mapping[str, Spec | None], value: Any, path: str, faults: list[str]) -> dict[str, Any]:
    value = structure(value)
    if not isinstance(value, Mapping):
        faults.append(f"{path} = {shown(value)}: expected a table with the weight of each loss")
        return {}
    weights: dict[str, Any] = {}
    for name, entry in value.items():
        where, item = f"{path}.{name}", structure(entry)
        if name not in losses:
            faults.append(f"{where}: the recipe has no loss {name!r}{nearest(str(name), losses)}")
        elif isinstance(item, Mapping) and item and not set(item) & {"from", "to"} and all(isinstance(term, str) for term in item):
            weights[name] = {term: _weight(inner, f"{where}.{term}", faults) for term, inner in item.items()}
        else:
            weights[name] = _weight(item, where, faults)
    return weights


def _weight(value: Any, path: str, faults: list[str]) -> Weight:
    """A number, or a ramp {from, to}."""
    try:
        value = structure(value)
        if isinstance(value, Ramp):
            return value
        if isinstance(value, Mapping) and set(value) == {"from", "to"}:
            return Ramp(NUMBER.read(value["from"]), NUMBER.read(value["to"]))
        weight: float = NUMBER.read(value)
        return weight
    except ValueError:
        faults.append(f"{path} = {shown(value)}: expected a number, or a ramp with both 'from' and 'to'")
        return 0.0
