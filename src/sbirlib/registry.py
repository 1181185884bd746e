"""Parts by name: found in entry points without importing anything, imported when used, listed, and explained when they fail."""

from __future__ import annotations

import configparser
import fnmatch
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from typing import Any

import entrypoints
from packaging.requirements import Requirement

from sbirlib.errors import InputError, nearest

GROUPS = {
    "encoder": "sbirlib.encoders",
    "miner": "sbirlib.miners",
    "loss": "sbirlib.losses",
    "evaluator": "sbirlib.evaluators",
    "dataset": "sbirlib.datasets",
    "sampler": "sbirlib.samplers",
    "transform": "sbirlib.transforms",
    "optimizer": "sbirlib.optimizers",
    "schedule": "sbirlib.schedules",
    "index": "sbirlib.indexes",
    "recipe": "sbirlib.recipes",
}
_KINDS = {group: kind for kind, group in GROUPS.items()}


@dataclass(frozen=True)
class Entry:
    """One name that an installed distribution offers. `attribute` is empty where the target is a module."""

    kind: str
    name: str
    module: str
    attribute: str
    distribution: str
    version: str

    @property
    def source(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Found:
    """All entries, and the distributions whose entry points could not be read, with the cause."""

    entries: tuple[Entry, ...]
    unreadable: tuple[tuple[str, str], ...]


def found() -> Found:
    """Everything that is installed now; scanned once for each state of sys.path."""
    return _scan(tuple(sys.path))


@lru_cache(maxsize=4)
def _scan(path: tuple[str, ...]) -> Found:
    try:
        targets = list(_with_entrypoints(path))
        unreadable: list[tuple[str, str]] = []
    except configparser.Error:  # one malformed file of any package ends the scan of `entrypoints`
        targets, unreadable = _with_metadata(path)
    unique = dict.fromkeys(Entry(kind, name, *_target(value), _canonical(distribution), version)
                           for kind, name, value, distribution, version in targets)  # fmt: skip
    return Found(tuple(sorted(unique, key=lambda e: (e.kind, e.name, e.distribution))), tuple(unreadable))


_Target = tuple[str, str, str, str, str]


def _with_entrypoints(path: tuple[str, ...]) -> Iterator[_Target]:
    for sections, distribution in entrypoints.iter_files_distros(list(path)):
        for group in _KINDS.keys() & set(sections.sections()):
            for name, value in sections.items(group):
                yield _KINDS[group], name, value, distribution.name if distribution else "?", distribution.version if distribution else "?"


def _with_metadata(path: tuple[str, ...]) -> tuple[list[_Target], list[tuple[str, str]]]:
    """The same one distribution at a time, with those that cannot be read."""
    targets: list[_Target] = []
    unreadable = []
    for distribution in metadata.distributions(path=list(path)):
        name, sections = distribution.metadata["Name"], entrypoints.CaseSensitiveConfigParser(delimiters=("=",))
        try:
            sections.read_string(distribution.read_text("entry_points.txt") or "")
        except configparser.Error as error:
            unreadable.append((name, f"entry_points.txt: {' '.join(str(error).split())}"))
            continue
        for group in _KINDS.keys() & set(sections.sections()):
            targets += [(_KINDS[group], entry, value, name, distribution.version) for entry, value in sections.items(group)]
    return targets, unreadable


def _target(value: str) -> tuple[str, str]:
    module, _, attribute = value.split("[")[0].strip().partition(":")
    return module.strip(), attribute.strip()


def _canonical(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def list_parts(kind: str, pattern: str = "*") -> list[str]:
    """Names of one kind that match a wildcard, such as `list_parts("recipe", "*hm*")`; nothing is imported."""
    _check_kind(kind)
    return sorted({e.name for e in found().entries if e.kind == kind and fnmatch.fnmatch(e.name, pattern)})


list_encoders = partial(list_parts, "encoder")
list_miners = partial(list_parts, "miner")
list_losses = partial(list_parts, "loss")
list_evaluators = partial(list_parts, "evaluator")
list_datasets = partial(list_parts, "dataset")
list_samplers = partial(list_parts, "sampler")
list_transforms = partial(list_parts, "transform")
list_optimizers = partial(list_parts, "optimizer")
list_schedules = partial(list_parts, "schedule")
list_indexes = partial(list_parts, "index")
list_recipes = partial(list_parts, "recipe")


def entry(kind: str, name: str) -> Entry:
    """The one entry of that name; `name@distribution` chooses where two distributions offer it."""
    _check_kind(kind)
    plain, _, wanted = name.partition("@")
    offered = [e for e in found().entries if e.kind == kind and e.name == plain]
    if not offered:
        broken = "".join(f"; {d} could not be read ({cause})" for d, cause in found().unreadable)
        raise InputError(f"unknown {kind} {plain!r}{nearest(plain, list_parts(kind))}{broken}")
    chosen = [e for e in offered if not wanted or e.distribution == _canonical(wanted)]
    if not chosen:
        raise InputError(f"{kind} {plain!r} is not offered by {wanted!r} but by {', '.join(e.source for e in offered)}")
    if len(chosen) > 1:
        ways = " or ".join(repr(f"{plain}@{e.distribution}") for e in chosen)
        raise InputError(f"{kind} {plain!r} is offered by {' and by '.join(e.source for e in chosen)}: write {ways}")
    return chosen[0]


def load(kind: str, name: str) -> Callable[..., Any]:
    """Import what a name stands for. `pml:TripletMarginLoss` asks the adapter `pml` for `TripletMarginLoss`."""
    plain, colon, wrapped = name.partition(":")
    target = entry(kind, plain)
    if reason := unmet(target.distribution):
        raise InputError(f"{kind} {plain!r} of {target.source} cannot be used: {reason}")
    try:
        loaded = getattr(importlib.import_module(target.module), target.attribute)
    except Exception as error:
        raise InputError(
            f"{kind} {plain!r} of {target.source} cannot be imported: {type(error).__name__}: {error} "
            f"(its entry point is {target.module}:{target.attribute})"
        ) from error
    return loaded(wrapped) if colon else loaded  # type: ignore[no-any-return]


def unmet(distribution: str) -> str:
    """Which requirement of a distribution on sbirlib this one does not meet, and what to do; empty if there is none."""
    ours = metadata.version("sbirlib")
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return ""
    for requirement in map(Requirement, required):
        if _canonical(requirement.name) == "sbirlib" and not requirement.specifier.contains(ours, prereleases=True):
            return f"it is built for sbirlib{requirement.specifier}, and this is sbirlib {ours}: install versions that fit each other"
    return ""


def options(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """A part's options: the explicit keyword-only parameters of its constructor."""
    parameters = inspect.signature(load(kind, name)).parameters
    return {p.name: p for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def defaults(kind: str, name: str) -> dict[str, Any]:
    """The options that have a default, with it."""
    return {k: p.default for k, p in options(kind, name).items() if p.default is not inspect.Parameter.empty}


def held(option: inspect.Parameter) -> str:
    """The kind of part that an option holds, empty if it holds none: it is named as a kind, or is annotated `Encoder`.

    >>> held(inspect.Parameter("descriptor", inspect.Parameter.KEYWORD_ONLY, annotation="Encoder"))
    'encoder'
    """
    if option.name in GROUPS:
        return option.name
    annotated = getattr(option.annotation, "__name__", str(option.annotation))
    return "encoder" if annotated == "Encoder" else ""


def check(kind: str, table: Mapping[str, Any], *, filled: tuple[str, ...] = ()) -> None:
    """Refuse a table (name and options) with an unknown name, an unknown option or one missing that nobody fills in."""
    name, given = _split(kind, table)
    known = options(kind, name)
    for option, value in given.items():
        if option not in known:
            raise InputError(f"{kind} {name!r} has no option {option!r}{nearest(option, known)}")
        inner = held(known[option])
        if inner and isinstance(value, Mapping):
            check(inner, value, filled=filled)
    missing = [k for k, p in known.items() if p.default is inspect.Parameter.empty and k not in given and k not in filled]
    if missing:
        raise InputError(f"{kind} {name!r} needs the option {missing[0]!r}, which was not given")


def part(kind: str, name: str | Mapping[str, Any] | object, **given: Any) -> Any:
    """One part, from a name and options, a table with a `name`, or an object, which is returned as it is.

    >>> part("miner", "modality_hard", kinds=["cross"])           # doctest: +SKIP
    """
    if isinstance(name, str):
        name = {"name": name}
    if not isinstance(name, Mapping):
        return name
    table = {**name, **given}
    check(kind, table)
    return construct(kind, table)


def construct(kind: str, table: Mapping[str, Any], *, fill: Mapping[str, Any] | None = None) -> Any:
    """Make a checked part. Required options that were not given are filled in, and options that hold a part get it made."""
    name, given = _split(kind, table)
    parameters = options(kind, name)
    asked = {k: v for k, v in (fill or {}).items() if k in parameters and parameters[k].default is inspect.Parameter.empty}
    inner = {k: held(p) for k, p in parameters.items()}
    nested = {k: part(inner[k], v) for k, v in given.items() if inner[k] and isinstance(v, str | Mapping)}
    return load(kind, name)(**{**asked, **given, **nested})


def _split(kind: str, table: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if not isinstance(table.get("name"), str):
        raise InputError(f"a {kind} is a name, a table with a name and options, or an object; got {dict(table)!r}")
    return table["name"], {k: v for k, v in table.items() if k != "name"}


def _check_kind(kind: str) -> None:
    if kind not in GROUPS:
        raise InputError(f"unknown kind of part {kind!r}{nearest(kind, GROUPS)}")
