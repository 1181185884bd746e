"""Checks of components of any kind."""

from __future__ import annotations

import inspect
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sbirlib import registry
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder, Evaluator, Loss, Miner
from sbirlib.options import REQUIRED, options_of, read_options
from sbirlib.spec import component_kind
from sbirlib.testing import loss, miner
from sbirlib.testing.imports import faults
from sbirlib.testing.subject import CheckFailed, Subject, require, seeded
from sbirlib.testing.world import batch, reloaded

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
            component = registry.load(subject.kind, subject.name)([nn.Parameter(torch.zeros(1))])
        else:
            component = subject.make(small=False)
    contract = CONTRACTS.get(subject.kind)
    if contract is not None:
        require(isinstance(component, contract), f"{subject.id} makes a {type(component).__name__}, which is no {contract.__name__}")


def options_are_explicit(subject: Subject) -> None:
    """The constructor's keyword-only signature is the schema: no **kwargs, nothing positional, defaults that JSON can hold."""
    parameters = list(inspect.signature(registry.load(subject.kind, subject.name)).parameters.values())
    for parameter in parameters[subject.kind in registry.POSITIONAL :]:
        require(
            parameter.kind is inspect.Parameter.KEYWORD_ONLY,
            f"{subject.id}: the parameter {str(parameter)!r} is not an explicit keyword-only option: name every option after a `*`",
        )
    options = {
        name: o.default for name, o in options_of(registry.load(subject.kind, subject.name)).items() if o.default is not REQUIRED
    } | subject.options
    try:
        through_json: dict[str, Any] = json.loads(json.dumps(options))
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"{subject.id}: its defaults cannot be stored in a recipe: {error}") from error
    if subject.kind not in registry.POSITIONAL:
        subject.make(small=False, **through_json)


def options_are_typed_and_explained(subject: Subject) -> None:
    """Every option has an annotation that its default satisfies, and a line under `Args:` in the docstring."""
    if ":" in subject.name:
        return  # another library's options are typed by their defaults
    constructor = registry.load(subject.kind, subject.name)
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
    declared = options_of(registry.load(subject.kind, subject.name))
    for option in declared.values():
        for value in [] if component_kind(option) else wrong_values(option.schema()):
            faults: list[str] = []
            read_options(registry.load(subject.kind, subject.name), {option.name: value}, subject.id, faults, supplied=list(declared))
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


def state_is_whole(subject: Subject) -> None:
    """Two components made from different seeds are the same once one has the other's state, read with weights_only=True."""
    one, other = subject.make(seed=0), subject.make(seed=1)
    state = reloaded(one.state_dict())
    try:
        other.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckFailed(f"{subject.id}: its own state does not load strictly: {error}") from error
    for name, value in other.state_dict().items():
        require(torch.equal(value, one.state_dict()[name]), f"{subject.id}: {name} differs after loading it")
    for output, expected in zip(_behaviour(subject, other), _behaviour(subject, one), strict=True):
        require(torch.equal(output, expected), f"{subject.id}: with the same state it gives something else: keep all state in state_dict")


def _behaviour(subject: Subject, component: Any) -> list[Tensor]:
    """Outputs of a component for a fixed input, tensors of any shape."""
    with seeded(2), torch.no_grad():
        if subject.kind == "encoder":
            features = component.eval()(batch())
            return [features.embedding, features.vector]
        if subject.kind == "miner":
            features, distances = miner.rows()
            return [rows for t in component(features, distances).values() for rows in (t.anchor, t.positive, t.negative)]
        return list(loss.terms(component.eval(), loss.step(subject, component)).values())


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
MODULE_CHECKS = (state_is_whole,)
