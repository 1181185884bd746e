"""What holds for a part of any kind."""

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
from sbirlib.options import REQUIRED, options_of
from sbirlib.testing import loss, miner
from sbirlib.testing.imports import faults
from sbirlib.testing.subject import CheckFailed, Subject, require, seeded
from sbirlib.testing.world import batch, reloaded

CONTRACTS = {"encoder": Encoder, "miner": Miner, "loss": Loss, "evaluator": Evaluator}
POSITIONAL = {"optimizer": "parameters", "dataset": "root"}  # kinds that are called with something first
NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def adapts(kind: str, name: str) -> bool:
    """Whether an entry makes parts from another library's names, and is none itself: it is called with such a name."""
    if kind in POSITIONAL:
        return False
    parameters = inspect.signature(registry.load(kind, name)).parameters.values()
    return any(p.kind in NAMED and p.default is p.empty for p in parameters)


def adapted(kind: str, name: str) -> bool:
    """Whether an adapter makes a part of this kind from the other library's name."""
    try:
        registry.load(kind, name)
    except InputError:
        return False
    return True


def builds_by_default(subject: Subject) -> None:
    """Without an option and without a connection; an encoder's weights are fetched by `load_weights`, not before."""
    with _no_connections(), seeded(0):
        if subject.kind == "optimizer":
            made = registry.load(subject.kind, subject.name)([nn.Parameter(torch.zeros(1))])
        else:
            made = subject.make(small=False)
    contract = CONTRACTS.get(subject.kind)
    if contract is not None:
        require(isinstance(made, contract), f"{subject.id} makes a {type(made).__name__}, which is no {contract.__name__}")


def options_are_explicit(subject: Subject) -> None:
    """The constructor's keyword-only signature is the schema: no **kwargs, nothing positional, defaults that JSON can hold."""
    parameters = list(inspect.signature(registry.load(subject.kind, subject.name)).parameters.values())
    for parameter in parameters[subject.kind in POSITIONAL :]:
        require(
            parameter.kind is inspect.Parameter.KEYWORD_ONLY,
            f"{subject.id}: the parameter {str(parameter)!r} is not an explicit keyword-only option: name every option after a `*`",
        )
    given = {
        name: o.default for name, o in options_of(registry.load(subject.kind, subject.name)).items() if o.default is not REQUIRED
    } | subject.options
    try:
        through_json: dict[str, Any] = json.loads(json.dumps(given))
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"{subject.id}: its defaults cannot be stored in a recipe: {error}") from error
    if subject.kind not in POSITIONAL:
        subject.make(small=False, **through_json)


def imports_only_what_it_declares(subject: Subject) -> None:
    """Its modules import what they use, from distributions that its own one requires, and nothing from the trainer upwards."""
    entry = registry.entry(subject.kind, subject.name.partition(":")[0])
    found = faults(entry.module, entry.distribution)
    require(not found, f"{subject.id}: " + "; ".join(found))


def state_is_whole(subject: Subject) -> None:
    """Two parts made from different seeds are the same part once one has the other's state, read with weights_only=True."""
    one, other = subject.make(seed=0), subject.make(seed=1)
    state = reloaded(one.state_dict())
    try:
        other.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckFailed(f"{subject.id}: its own state does not load strictly: {error}") from error
    for name, value in other.state_dict().items():
        require(torch.equal(value, one.state_dict()[name]), f"{subject.id}: {name} differs after loading it")
    for seen, expected in zip(_behaviour(subject, other), _behaviour(subject, one), strict=True):
        require(torch.equal(seen, expected), f"{subject.id}: with the same state it gives something else: keep all state in state_dict")


def _behaviour(subject: Subject, made: Any) -> list[Tensor]:
    """What a part gives for a fixed input."""
    with seeded(2), torch.no_grad():
        if subject.kind == "encoder":
            features = made.eval()(batch())
            return [features.embedding, features.vector]
        if subject.kind == "miner":
            features, distances = miner.rows()
            return [rows for t in made(features, distances).values() for rows in (t.anchor, t.positive, t.negative)]
        return list(loss.terms(made.eval(), loss.step(subject, made)).values())


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


CHECKS = (builds_by_default, options_are_explicit, imports_only_what_it_declares)
MODULE_CHECKS = (state_is_whole,)
