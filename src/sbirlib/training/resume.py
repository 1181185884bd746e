"""Checkpoints of a training: everything that is needed to go on, held against the recipe and the data before it is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.processes import world_size
from sbirlib.recipe import Recipe
from sbirlib.spec import Spec
from sbirlib.training import checkpoint
from sbirlib.training.best import Best
from sbirlib.training.description import Description, Training
from sbirlib.training.ema import Ema
from sbirlib.training.optimizer_state import pack, unpack
from sbirlib.training.output import BEST
from sbirlib.training.plan import Plan
from sbirlib.training.randomness import RandomStream
from sbirlib.training.steps import Position

logger = logging.getLogger(__name__)


def contents(
    plan: Plan, position: Position, stream: RandomStream, about: Mapping[str, Any], best: Best | None, ema: Ema
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of model, average, optimizers and random state, and position and best step so far in a description; `about` describes model and data.

    All processes have the same state, the random state included, so one file serves any number of them.
    """
    tensors, optimizers = pack(plan.phases[position.phase].optimizers)
    training: dict[str, Any] = {"position": asdict(position), "optimizers": optimizers, "recipe_digest": plan.recipe.digest}
    training["processes"] = world_size()
    if best is not None:
        training |= {"chosen": None if best.chosen is None else best.chosen.model_dump(), "since": best.since}
    return plan.model.tensors() | ema.packed() | tensors | stream.state, {**about, "training": training}


def restore(path: Path, plan: Plan, stream: RandomStream, about: Mapping[str, Any], best: Best | None, ema: Ema) -> Position:
    """Load model, average, optimizers, random state and the best weights so far, and return the position.

    Raises InputError, before anything is loaded, where the checkpoint is of another recipe, dataset or split, or does not fit them.
    """
    tensors, theirs = checkpoint.read_model(path)
    if theirs.training is None:
        raise InputError(
            f"{path} is a model without the state of a training, so none can be resumed from it: choose another out=FOLDER (--out)"
        )
    _check_recipe(path, plan, theirs.training, theirs.recipe)
    _check_data(path, theirs, about)
    position = _position(path, plan, theirs.training)
    phase = plan.phases[position.phase]
    try:
        _check_tensors(plan, tensors)
        stream.check(tensors)
        unpack(phase.optimizers, tensors, theirs.training.optimizers, _specs(plan, position))
    except InputError as error:
        raise InputError(f"{path} cannot be resumed: {error}; take an earlier copy, or choose another out=FOLDER (--out)") from error
    plan.model.load_state_dict(checkpoint.of_model(tensors))
    ema.restore(tensors, plan.model)
    stream.restore(tensors)
    if theirs.training.processes != world_size():
        logger.info(
            "%s is of %d processes, and goes on with %d: the same batches, other rounding", path, theirs.training.processes, world_size()
        )
    if best is not None:
        with ema.worn(plan.model):
            best.restore(path.with_name(BEST), theirs.training, plan.model, plan.steps_before(position.phase) + position.step)
    return position


def _check_recipe(path: Path, plan: Plan, training: Training, before: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another recipe; more patience, and other steps of the phase it stands in or of later ones, are told and trained."""
    if training.recipe_digest == plan.recipe.digest:
        return
    now, before = plan.recipe.tables(), _completed(path, before)
    if now == before:
        return
    phases, former = now["phases"], before.get("phases", [])
    keys = sorted(key for key in now.keys() | before.keys() if _fixed(now.get(key)) != _fixed(before.get(key)))
    if keys or len(phases) != len(former) or any(a != b for a, b in zip(phases[: training.position.phase], former, strict=False)):
        raise InputError(
            f"{path} was made by another recipe (they differ in: {', '.join(keys) or 'phases'}): train it with that one, or choose another "
            "out=FOLDER (--out). Patience and steps alone may be others, those of the phase it stands in and of later ones: so a run is made longer"
        )
    steps = ", ".join(
        f"phases.{i}.steps {b['steps']} -> {a['steps']}" for i, (a, b) in enumerate(zip(phases, former, strict=True)) if a != b
    )
    logger.warning("%s was planned otherwise (%s): schedules follow the new plan from here on", path, steps or "another patience")


def _fixed(value: Any) -> Any:
    """A recipe's value without the settings that a resumed run may change: steps of phases, and the patience of validation."""
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if key != "patience"}
    if isinstance(value, list):
        return [{key: item for key, item in entry.items() if key != "steps"} if isinstance(entry, Mapping) else entry for entry in value]
    return value


def _completed(path: Path, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe of a checkpoint with the options that its version did not have at their defaults; as it is where it cannot be read."""
    try:
        tables = Recipe.of(before).tables()
    except InputError:
        return before
    if keys := sorted(key for key in tables.keys() | before.keys() if tables.get(key) != before.get(key)):
        logger.warning("%s is of an earlier version: options of %s that it did not have are at their defaults", path, ", ".join(keys))
    return tables


def _check_data(path: Path, theirs: Description, about: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of other data; those of the first versions do not say of which data they are."""
    own, data = about["data"], theirs.data
    other = data is not None and data.digest not in ("", own["digest"])
    if other or [*theirs.categories] != [*about["categories"]] or theirs.instances != about["instances"]:
        before = "other data" if data is None else f"{data.name}, split {data.split} ({data.digest[:12]})"
        raise InputError(
            f"{path} was trained on {before}, and this is {own['name']}, split {own['split']} ({own['digest'][:12]}): "
            "resume it on the same images and split, or choose another out=FOLDER (--out)"
        )


def _position(path: Path, plan: Plan, training: Training) -> Position:
    position = Position(**training.position.model_dump())
    inside = position.phase < len(plan.phases) and position.step <= plan.phases[position.phase].phase.steps
    if not inside or position.epoch > plan.batches_before(position.phase, position.step) + position.phase:  # an epoch has a batch at least
        raise InputError(
            f"{path} stands at {position}, which is no place in this recipe: take an earlier copy, or choose another out=FOLDER (--out)"
        )
    return position


def _check_tensors(plan: Plan, tensors: Mapping[str, Any]) -> None:
    own = plan.model.state_dict()
    theirs = checkpoint.of_model(tensors)
    if differing := sorted(own.keys() ^ theirs.keys()):
        raise InputError(f"{len(differing)} tensors of the model are missing or too many, such as {differing[0]!r}")
    for name, value in own.items():
        if not _takes(value, theirs[name]):
            expected, value = (f"{v.dtype} {list(v.shape)}" for v in (value, theirs[name]))
            raise InputError(f"{name} is {value}, expected {expected}")


def _takes(own: Tensor, theirs: Tensor) -> bool:
    """Whether a tensor can take another's values: sides of 0, as of an image pool that is empty yet, take any."""
    sides = zip(own.shape, theirs.shape, strict=False)
    return own.dtype == theirs.dtype and own.ndim == theirs.ndim and all(side in (0, other) for side, other in sides)


def _specs(plan: Plan, position: Position) -> dict[str, Spec]:
    """The specs of the optimizers of the position's phase."""
    phase = plan.phases[position.phase].phase
    return {"encoder": phase.optimizer, "discriminator": phase.discriminator or phase.optimizer}
