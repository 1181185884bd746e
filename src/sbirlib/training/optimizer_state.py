"""State of optimizers in a checkpoint: tensors by name, and the rest as JSON; held against the optimizers before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sbirlib.errors import InputError
from sbirlib.spec import Spec
from sbirlib.training.description import OptimizerState
from sbirlib.training.sharding import assembled, divided_as, is_divided

PREFIX = "optimizer."  # of the tensors' names
IMPLEMENTATION = ("fused", "foreach")  # settings of a group that change how a step is computed, and not what it is
Optimizers = Mapping[str, torch.optim.Optimizer]


def pack(optimizers: Optimizers) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of optimizers: tensors by name, of the shape of their parameters, and the rest as JSON; for divided ones every process calls it."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        plain: dict[str, dict[str, Any]] = {}
        for number, values in state["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"{PREFIX}{name}.{number}.{key}"] = assembled(value.detach()).to("cpu", copy=True).contiguous()
                else:
                    plain.setdefault(str(number), {})[key] = value
        rest[name] = {"groups": state["param_groups"], "plain": plain}
    return tensors, rest


def unpack(optimizers: Optimizers, tensors: Mapping[str, Tensor], rest: Mapping[str, OptimizerState], specs: Mapping[str, Spec]) -> None:
    """Load the optimizers' state from `pack`, tensors of the shape of their parameters; `specs` made the optimizers.

    Raises InputError, before anything is loaded, where the state is not that of these optimizers.
    """
    if rest.keys() != optimizers.keys():
        raise InputError(f"it holds the state of the optimizers {sorted(rest)}, and this phase has {sorted(optimizers)}")
    states = {name: _state(name, optimizer, tensors, rest[name], specs[name]) for name, optimizer in optimizers.items()}
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(states[name])


def _state(name: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: OptimizerState, spec: Spec) -> dict[str, Any]:
    """The state of one optimizer, as it loads it: tensors in the layout of their parameters, for fused optimizers read memory, not indices."""
    own = optimizer.state_dict()["param_groups"]
    if len(rest.groups) != len(own) or not all(_alike(one, other) for one, other in zip(rest.groups, own, strict=True)):
        raise InputError(f"the parameter groups of its optimizer {name!r} are not those of this recipe")
    parameters, expected = [p for group in optimizer.param_groups for p in group["params"]], entries_of(spec)
    state: dict[int, dict[str, Any]] = {}
    for number, key, value in _entries(name, tensors, rest):
        if not (number.isdecimal() and len(number) < 10 and int(number) < len(parameters)):
            raise InputError(f"its optimizer {name!r} has state of a parameter {number[:80]!r}, and there are {len(parameters)}")
        like = parameters[int(number)]
        if expected is not None and not (key in expected and _fits(value, expected[key], like)):
            raise InputError(f"the entry {key[:80]!r} of parameter {number} of its optimizer {name!r} is not one that this optimizer keeps")
        if isinstance(value, Tensor) and value.shape == like.shape:
            value = divided_as(like, value) if is_divided(like) else torch.empty_like(like, dtype=value.dtype).copy_(value)
        state.setdefault(int(number), {})[key] = value
    if expected is not None and not all(values.keys() == expected.keys() for values in state.values()):
        raise InputError(f"the state of its optimizer {name!r} is not whole")
    options = [{key: group[key] for key in IMPLEMENTATION if key in group} for group in own]
    return {"state": state, "param_groups": [{**group, **as_here} for group, as_here in zip(rest.groups, options, strict=True)]}


def _entries(name: str, tensors: Mapping[str, Tensor], rest: OptimizerState) -> Iterator[tuple[str, str, Any]]:
    """The state of an optimizer: number of the parameter, key and value; tensors have any shape."""
    for number, values in rest.plain.items():
        yield from ((number, key, value) for key, value in values.items())
    prefix = f"{PREFIX}{name}."
    for key, value in tensors.items():
        if key.startswith(prefix):
            number, _, entry = key.removeprefix(prefix).partition(".")
            yield number, entry, value


def entries_of(spec: Spec) -> dict[str, Any] | None:
    """The state that an optimizer keeps of a parameter [2, 3], by a step on one; None where it takes no such step."""
    parameter = nn.Parameter(torch.zeros(2, 3))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = spec.make([parameter])
    try:
        optimizer.step()
    except (RuntimeError, TypeError):  # such as one that wants a closure
        return None
    entries: dict[str, Any] = optimizer.state_dict()["state"].get(0, {})
    return entries


def _fits(value: Any, expected: Any, like: Tensor) -> bool:
    """Whether a value has the type of the expected one, and a tensor the shape that goes with its parameter's."""
    if not isinstance(expected, Tensor) or not isinstance(value, Tensor):
        return type(value) is type(expected)
    shape = like.shape if expected.shape == (2, 3) else expected.shape
    return value.shape == shape and value.dtype == expected.dtype


def _alike(group: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether a parameter group has the settings of our own, numbers aside, which a schedule or the optimizer itself may have changed."""
    return group.keys() - {"initial_lr"} == own.keys() - {"initial_lr"} and all(
        _number(value) if _number(own.get(key, 0.0)) else value == (list(own[key]) if isinstance(own[key], tuple) else own[key])
        for key, value in group.items()
        if key not in IMPLEMENTATION
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
