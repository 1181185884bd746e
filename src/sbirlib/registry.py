"""Registry of components by kind and name, read from entry points; a component is imported when it is used."""

from __future__ import annotations

import configparser
import fnmatch
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
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
POSITIONAL = {"optimizer": "parameters", "dataset": "root"}  # kinds whose constructors take something first
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
class Scan:
    """All entries of the installed distributions, and those distributions whose entry points could not be read, with the cause."""

    entries: tuple[Entry, ...]
    unreadable: tuple[tuple[str, str], ...]


def scan() -> Scan:
    """Everything that is installed now; read once for each state of sys.path."""
    return _scan(tuple(sys.path))


@lru_cache(maxsize=4)
def _scan(path: tuple[str, ...]) -> Scan:
    try:
        targets = list(_with_entrypoints(path))
        unreadable: list[tuple[str, str]] = []
    except configparser.Error:  # one malformed file of any package ends the scan of `entrypoints`
        targets, unreadable = _with_metadata(path)
    unique = dict.fromkeys(Entry(kind, name, *_target(value), _canonical(distribution), version)
                           for kind, name, value, distribution, version in targets)  # fmt: skip
    return Scan(tuple(sorted(unique, key=lambda e: (e.kind, e.name, e.distribution))), tuple(unreadable))


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
    check_kind(kind)
    return sorted({e.name for e in scan().entries if e.kind == kind and fnmatch.fnmatch(e.name, pattern)})


def entry(kind: str, name: str) -> Entry:
    """The one entry of that name; `name@distribution` chooses where two distributions offer it."""
    check_kind(kind)
    plain, at, wanted = name.partition("@")
    if at and not wanted:
        raise InputError(f"{kind} {name!r} names no distribution after '@': leave it out, or write {plain}@DISTRIBUTION")
    offered = [e for e in scan().entries if e.kind == kind and e.name == plain]
    if not offered:
        broken = "".join(f"; {d} could not be read ({cause})" for d, cause in scan().unreadable)
        raise InputError(f"unknown {kind} {plain!r}{nearest(plain, list_parts(kind))}{broken}")
    matching = [e for e in offered if not wanted or e.distribution == _canonical(wanted)]
    if not matching:
        raise InputError(f"{kind} {plain!r} is not offered by {wanted!r} but by {', '.join(e.source for e in offered)}")
    if len(matching) > 1:
        ways = " or ".join(repr(f"{plain}@{e.distribution}") for e in matching)
        raise InputError(f"{kind} {plain!r} is offered by {' and by '.join(e.source for e in matching)}: write {ways}")
    return matching[0]


def load(kind: str, name: str) -> Callable[..., Any]:
    """Import a component's constructor by name. `pml:TripletMarginLoss` asks the adapter `pml` for `TripletMarginLoss`."""
    plain, colon, wrapped = name.partition(":")
    constructor = import_entry(kind, plain)
    adapter = adapts(kind, constructor)
    if adapter != bool(wrapped) or adapter != bool(colon):
        library = f"name a component of that library, such as {plain}:NAME"
        way = library if adapter else f"{plain!r} adapts no other library: leave out {colon + wrapped!r}"
        raise InputError(f"{kind} {name!r} cannot be used: {way}")
    return constructor(wrapped) if colon else constructor


def adapts(kind: str, constructor: Callable[..., Any]) -> bool:
    """Whether an entry makes components from another library's names, and is none itself: it is called with such a name."""
    if kind in POSITIONAL:
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in kinds and p.default is p.empty for p in inspect.signature(constructor).parameters.values())


def import_entry(kind: str, name: str) -> Callable[..., Any]:
    """Import the target of an entry, a constructor or an adapter. Raises InputError, with the cause, where that fails."""
    target = entry(kind, name)
    if reason := unmet(target.distribution):
        raise InputError(f"{kind} {target.name!r} of {target.source} cannot be used: {reason}")
    try:
        return getattr(importlib.import_module(target.module), target.attribute)  # type: ignore[no-any-return]
    except Exception as error:
        raise InputError(
            f"{kind} {name!r} of {target.source} cannot be imported: {type(error).__name__}: {error} "
            f"(its entry point is {target.module}:{target.attribute})"
        ) from error


def unmet(distribution: str) -> str:
    """The requirement of a distribution on sbirlib that this version does not meet, with a way out; empty if there is none."""
    return _unmet(distribution, tuple(sys.path))


@lru_cache(maxsize=256)
def _unmet(distribution: str, path: tuple[str, ...]) -> str:
    ours = metadata.version("sbirlib")
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return ""
    for requirement in map(Requirement, required):
        if _canonical(requirement.name) == "sbirlib" and not requirement.specifier.contains(ours, prereleases=True):
            return f"it is built for sbirlib{requirement.specifier}, and this is sbirlib {ours}: install versions that fit each other"
    return ""


def check_kind(kind: str) -> None:
    """Raise InputError for a kind of component that there is not."""
    if not isinstance(kind, str) or kind not in GROUPS:
        raise InputError(f"unknown kind of component {kind!r}{nearest(str(kind), GROUPS)}")
