"""Checkpoints of a training: everything that is needed to go on, held against the recipe and the data before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sbirlib.errors import InputError
from sbirlib.spec import Spec
from sbirlib.training import checkpoint
from sbirlib.training.description import Description, Training
from sbirlib.training.optimizer_state import pack, unpack
from sbirlib.training.plan import Plan
from sbirlib.training.randomness import RandomStream
from sbirlib.training.steps import Position


def save(path: Path, plan: Plan, position: Position, stream: RandomStream, about: Mapping[str, Any]) -> None:
    """Write model, optimizers, random state and position; `about` describes the model and its data."""
    tensors, optimizers = pack(plan.phases[position.phase].optimizers)
    training = {"position": asdict(position), "optimizers": optimizers, "recipe_digest": plan.recipe.digest}
    checkpoint.write(path, plan.model.tensors() | tensors | stream.state, {**about, "training": training})


def restore(path: Path, plan: Plan, stream: RandomStream, about: Mapping[str, Any]) -> Position:
    """Load model, optimizers and random state, and return the position.

    Raises InputError, before anything is loaded, where the checkpoint is of another recipe, dataset or split, or does not fit them.
    """
    tensors, theirs = checkpoint.read_model(path)
    if theirs.training is None:
        raise InputError(f"{path} is a model without the state of a training, so none can be resumed from it: choose another out=FOLDER")
    _check_recipe(path, plan, theirs.training, theirs.recipe)
    _check_data(path, theirs, about)
    position = _position(path, plan, theirs.training)
    phase = plan.phases[position.phase]
    try:
        _check_tensors(plan, tensors)
        stream.check(tensors)
        unpack(phase.optimizers, tensors, theirs.training.optimizers, _specs(plan, position))
    except InputError as error:
        raise InputError(f"{path} cannot be resumed: {error}; take an earlier copy, or choose another out=FOLDER") from error
    plan.model.load_state_dict(checkpoint.of_model(tensors))
    stream.restore(tensors)
    return position


def _check_recipe(path: Path, plan: Plan, training: Training, before: Mapping[str, Any]) -> None:
    if training.recipe_digest != plan.recipe.digest:
        now = plan.recipe.tables()
        keys = ", ".join(key for key in now if now[key] != before.get(key))
        raise InputError(
            f"{path} was made by another recipe (they differ in: {keys}): train it with that one, or choose another out=FOLDER"
        )


def _check_data(path: Path, theirs: Description, about: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of other data; those of the first versions do not say of which data they are."""
    own, data = about["data"], theirs.data
    other = data is not None and data.digest not in ("", own["digest"])
    if other or [*theirs.categories] != [*about["categories"]] or theirs.instances != about["instances"]:
        before = "other data" if data is None else f"{data.name}, split {data.split} ({data.digest[:12]})"
        raise InputError(
            f"{path} was trained on {before}, and this is {own['name']}, split {own['split']} ({own['digest'][:12]}): "
            "resume it on the same images and split, or choose another out=FOLDER"
        )


def _position(path: Path, plan: Plan, training: Training) -> Position:
    position = Position(**training.position.model_dump())
    inside = position.phase < len(plan.phases) and position.step <= plan.phases[position.phase].phase.steps
    if not inside or position.epoch > plan.steps_before(position.phase) + position.step + position.phase:  # an epoch has a step at least
        raise InputError(
            f"{path} stands at {position}, which is no place in this recipe: take an earlier copy, or choose another out=FOLDER"
        )
    return position


def _check_tensors(plan: Plan, tensors: Mapping[str, Any]) -> None:
    own = plan.model.state_dict()
    theirs = checkpoint.of_model(tensors)
    if differing := sorted(own.keys() ^ theirs.keys()):
        raise InputError(f"{len(differing)} tensors of the model are missing or too many, such as {differing[0]!r}")
    for name, value in own.items():
        if theirs[name].shape != value.shape or theirs[name].dtype != value.dtype:
            expected, value = (f"{v.dtype} {list(v.shape)}" for v in (value, theirs[name]))
            raise InputError(f"{name} is {value}, expected {expected}")


def _specs(plan: Plan, position: Position) -> dict[str, Spec]:
    """The specs of the optimizers of the position's phase."""
    phase = plan.phases[position.phase].phase
    return {"encoder": phase.optimizer, "discriminator": phase.discriminator or phase.optimizer}
