"""Checks of components of any kind."""

from __future__ import annotations

import inspect
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sbirlib import registry
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder, Evaluator, Loss, Miner
from sbirlib.options import REQUIRED, options_of, read_options
from sbirlib.spec import component_kind
from sbirlib.testing.behaviour import observed
from sbirlib.testing.imports import faults
from sbirlib.testing.subject import CheckFailed, Subject, require, runs, seeded

CONTRACTS = {"encoder": Encoder, "miner": Miner, "loss": Loss, "evaluator": Evaluator}


def adapted(kind: str, name: str) -> bool:
    """Whether an adapter makes a component of this kind from the other library's name."""
    try:
        registry.load(kind, name)
    except InputError:
        return False
    return True


def builds_by_default(subject: Subject) -> None:
    """Without an option and without a connection; an encoder's weights are fetched by `load_weights`, not before."""
    with _no_connections(), seeded(0):
        if subject.kind == "optimizer":
            component = subject.constructor([nn.Parameter(torch.zeros(1))])
        else:
            component = subject.make(small=False)
    contract = CONTRACTS.get(subject.kind)
    if contract is not None:
        require(isinstance(component, contract), f"{subject.id} makes a {type(component).__name__}, which is no {contract.__name__}")


def options_are_explicit(subject: Subject) -> None:
    """The constructor's keyword-only signature is the schema: no **kwargs, nothing positional, no mutable default, the same after JSON."""
    parameters = list(inspect.signature(subject.constructor).parameters.values())
    for parameter in parameters[subject.kind in registry.POSITIONAL :]:
        require(
            parameter.kind is inspect.Parameter.KEYWORD_ONLY,
            f"{subject.id}: the parameter {str(parameter)!r} is not an explicit keyword-only option: name every option after a `*`",
        )
    declared = options_of(subject.constructor).items()
    defaults = {name: option.default for name, option in declared if option.default is not REQUIRED}
    for name, default in defaults.items():
        mutable = isinstance(default, list | dict | set)
        require(not mutable, f"{subject.id}: the default of {name} is a {type(default).__name__}, which all share: take a tuple, or None")
    options = defaults | subject.options
    try:
        through_json: dict[str, Any] = json.loads(json.dumps(options))
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"{subject.id}: its defaults cannot be stored in a recipe: {error}") from error
    if subject.kind not in registry.POSITIONAL:
        with runs(subject, "options that were stored as JSON"):
            subject.make(small=False, **through_json)
        types_lost = {name: value for name, value in through_json.items() if repr(value) != repr(options[name])}
        _behaves_the_same(subject, {name: options[name] for name in types_lost}, types_lost)


def _behaves_the_same(subject: Subject, options: dict[str, Any], through_json: dict[str, Any]) -> None:
    """The same behaviour with options as they are, and as JSON gives them back."""
    if not through_json:
        return
    expected = observed(subject, subject.make(exact=options))
    with runs(subject, "options that were stored as JSON"):
        stored = observed(subject, subject.make(**through_json))
    same = stored.keys() == expected.keys() and all(torch.equal(value, expected[name]) for name, value in stored.items())
    names = ", ".join(through_json)
    require(same, f"{subject.id}: it behaves otherwise once {names} went through JSON: tuples, enums and keys that are no texts are lost")


def options_are_typed_and_explained(subject: Subject) -> None:
    """Every option has an annotation that its default satisfies, and a line under `Args:` in the docstring."""
    if ":" in subject.name:
        return  # another library's options are typed by their defaults
    constructor = subject.constructor
    annotated = inspect.signature(constructor).parameters
    for option in options_of(constructor).values():
        typed = annotated[option.name].annotation is not inspect.Parameter.empty
        require(typed, f"{subject.id}: the option {option.name} has no annotation: give it a type, and a range as Annotated[float, Ge(0)]")
        require(bool(option.meaning), f"{subject.id}: the option {option.name} is not explained: add a line under `Args:` in the docstring")
        if option.default is not REQUIRED and not component_kind(option):
            try:
                option.read(json.loads(json.dumps(option.default)))
            except ValueError as error:
                raise CheckFailed(f"{subject.id}: the default of {option.name} is not allowed by its own annotation: {error}") from error


def wrong_values_are_refused(subject: Subject) -> None:
    """A value of another type or out of range, for any option, is refused with the option's path."""
    declared = options_of(subject.constructor)
    for option in declared.values():
        for value in [] if component_kind(option) else wrong_values(option.schema()):
            faults: list[str] = []
            read_options(subject.constructor, {option.name: value}, subject.id, faults, supplied=list(declared))
            refused = any(fault.startswith(f"{subject.id}.{option.name}") for fault in faults)
            require(refused, f"{subject.id}: the option {option.name} takes {value!r}, against its annotation")


def wrong_values(schema: dict[str, Any]) -> list[Any]:
    """Values of other types and out of range, by an option's JSON Schema; none for an option of any value."""
    inner = [kind for kind in schema.get("anyOf", [schema]) if kind.keys() & {"type", "enum", "const"}]
    if not inner:
        return []
    values: list[Any] = [object(), [object()], float("nan"), float("inf")]
    values += [kind["minimum"] - 1 for kind in inner if "minimum" in kind] + [kind["maximum"] + 1 for kind in inner if "maximum" in kind]
    values += [kind[bound] for kind in inner for bound in ("exclusiveMinimum", "exclusiveMaximum") if bound in kind]
    types = {kind.get("type") for kind in inner}
    chosen_from = any(kind.keys() & {"enum", "const"} for kind in inner)
    values += ["no such choice"] if chosen_from or "string" not in types else []
    values += [] if types & {"number", "integer"} else [3]
    values += [] if "boolean" in types else [True]
    values += [] if "null" in types else [None]
    return values if "object" in types else [*values, {"no": {"such": "table"}}]


def imports_only_what_it_declares(subject: Subject) -> None:
    """Its modules import only names that they use, from distributions that its own one requires, and nothing from the trainer upwards."""
    entry = registry.entry(subject.kind, subject.name.partition(":")[0])
    problems = faults(entry.module, entry.distribution)
    require(not problems, f"{subject.id}: " + "; ".join(problems))


@contextmanager
def _no_connections() -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise CheckFailed("it opens a connection while it is built: fetch in load_weights, which is called before first use")

    connect = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]


CHECKS = (builds_by_default, options_are_explicit, options_are_typed_and_explained, wrong_values_are_refused, imports_only_what_it_declares)
