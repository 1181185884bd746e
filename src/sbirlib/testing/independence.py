"""Checks of what a component depends on and changes: its state, its inputs, random generators, the device and the process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbirlib.interfaces import Step
from sbirlib.testing import worker
from sbirlib.testing.behaviour import MODULES, changed, inputs, observed, outputs, put, tensors, use
from sbirlib.testing.device import META, DevicesMixed, Elsewhere, elsewhere
from sbirlib.testing.subject import CheckFailed, Subject, require, seeded
from sbirlib.testing.world import reloaded


def state_is_whole(subject: Subject) -> None:
    """One that was used and another made from another seed are the same once it has its state, read with weights_only=True; and so later."""
    one, other = subject.make(seed=0), subject.make(seed=1)
    use(subject, one)
    try:
        other.load_state_dict(reloaded(one.state_dict()), strict=True)
    except RuntimeError as error:
        raise CheckFailed(f"{subject.id}: its own state does not load strictly: {error}") from error
    _are_the_same(subject, one, other, "with the same state")
    for component in (one, other):
        use(subject, component)
    _are_the_same(subject, one, other, "used further from the same state")


def _are_the_same(subject: Subject, one: Any, other: Any, when: str) -> None:
    expected = observed(subject, one)
    for name, value in observed(subject, other).items():
        require(_equal(value, expected.get(name)), f"{subject.id}: {when} its {name} differs: keep all state in state_dict")


def leaves_its_inputs_alone(subject: Subject) -> None:
    """No call changes a tensor of its input, in eval or in training mode."""
    worker.start()  # the second process imports torch until `is_the_same_in_another_process`, a component's last check, asks it
    component = subject.make()
    for training in (False, True):
        if subject.kind in MODULES:
            component.train(training)
        arguments = inputs(subject, component)
        before = {name: (value._version, value.clone()) for name, value in tensors(arguments)}
        with seeded(0):
            outputs(component, *arguments)
        after = dict(tensors(arguments))
        require(after.keys() == before.keys(), f"{subject.id}: it adds {sorted(after.keys() - before.keys())} to its arguments")
        for name, value in after.items():
            same = before[name][0] == value._version and _equal(value, before[name][1])
            require(same, f"{subject.id}: it changes its argument {name} in place: work on a copy")


def draws_from_torchs_generator_in_training_alone(subject: Subject) -> None:
    """Python's and numpy's global generators are never touched, for training restores torch's alone; nor is torch's in eval mode."""
    with seeded(0):
        before = _generators()
        component = subject.make()
        use(subject, component)
        _undrawn(subject, before, "random", "numpy")
        if subject.kind in MODULES:
            component.eval()
        arguments = inputs(subject, component)
        before = _generators()
        outputs(component, *arguments)
        in_eval = subject.kind in ("encoder", "loss", "evaluator", "sampler", "schedule")
        _undrawn(subject, before, "random", "numpy", *(["torch"] if in_eval else []))


def makes_tensors_on_the_device_of_its_inputs(subject: Subject) -> None:
    """With its state and inputs on another device, no operation meets a tensor of the CPU, and the outputs are on that device."""
    for training in (False, True):
        component: Any = subject.make().eval()
        arguments = inputs(subject, component)
        results: dict[str, Tensor] = {}
        with elsewhere(), seeded(0):
            put(component, _placed)
            for argument in arguments:
                if isinstance(argument, Step):
                    put(argument.encoder, _placed)
            try:
                if training:
                    use(subject, component, _placed)
                else:
                    results = outputs(component, *changed(arguments, _placed))
            except DevicesMixed as error:
                raise CheckFailed(f"{subject.id}: {error}: make tensors with device=..., and register those that are kept") from error
            except Exception:  # such as an extension that takes no tensor of a class of its own
                return
        for name, value in results.items():
            require(value.device == META, f"{subject.id}: {name} is on the CPU while its inputs are on another device")


def _placed(tensor: Tensor) -> Tensor:
    """A tensor of any shape on the other device."""
    return Elsewhere(tensor.detach())


def is_the_same_in_another_process(subject: Subject) -> None:
    """Made and called in a process with other hashes of texts, it has the same state and gives the same."""
    worker.ask(subject)  # it works while this process does
    try:
        here = observed(subject, subject.make())
    finally:
        there = worker.answer()
    if isinstance(there, str):
        raise CheckFailed(f"{subject.id}: in another process it raises {there}")
    require(here.keys() == there.keys(), f"{subject.id}: in another process it gives {sorted(there)}, here {sorted(here)}")
    for name, value in here.items():
        other = there[name]
        same = value.shape == other.shape and torch.allclose(value.double(), other.double(), rtol=1e-4, atol=1e-6, equal_nan=True)
        require(same, f"{subject.id}: its {name} differs in another process: hash(), id() and the order of a set differ too")


def _equal(one: Tensor, other: Tensor | None) -> bool:
    """Whether tensors of any shape are the same, NaN included."""
    return other is not None and one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


def _generators() -> dict[str, Any]:
    """States of the global generators."""
    numpy = np.random.get_state(legacy=False)
    return {
        "random": random.getstate(),
        "numpy": repr(numpy) + str(numpy["state"]["key"].tobytes()),
        "torch": torch.get_rng_state().tolist(),
    }


def _undrawn(subject: Subject, before: dict[str, Any], *names: str) -> None:
    after = _generators()
    for name in names:
        advice = "draw from torch's, and in training alone" if name == "torch" else "training restores torch's alone: draw from that"
        require(after[name] == before[name], f"{subject.id}: it touches the global generator of {name}: {advice}")


CHECKS = (leaves_its_inputs_alone, draws_from_torchs_generator_in_training_alone)
MODULE_CHECKS = (*CHECKS, state_is_whole, makes_tensors_on_the_device_of_its_inputs)
LAST_CHECKS = (is_the_same_in_another_process,)
