"""One phase of a recipe alone, for a few steps with everything thawed, as range tests and profiles train it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sbirlib.errors import InputError
from sbirlib.phase import Phase
from sbirlib.pipeline import Pipeline, build


@dataclass(frozen=True)
class PhaseAlone:
    """A fresh pipeline in which phase `number` has so many steps and those before it none.

    `thawed` names the rules that freeze parameters for some steps of a training: here they freeze none, so that a step is as most are.
    """

    pipeline: Pipeline
    number: int
    thawed: tuple[str, ...]

    @property
    def phase(self) -> Phase:
        """The phase, as the pipeline's recipe has it."""
        return self.pipeline.recipe.phases[self.number]


CONSTANT = {"name": "constant", "warmup": 0}


def phase_alone(
    recipe: str | Mapping[str, Any] | None, changes: Mapping[str, Any], *, steps: int, phase: int | None = None, schedule: Any = CONSTANT
) -> PhaseAlone:
    """Build the recipe with `changes` (as `build` takes them), and one phase alone: this one, or the first that has steps.

    `schedule`, by default a constant rate, is that of the phase in place of the recipe's.

    >>> alone = phase_alone("mathm", {}, steps=10)
    >>> alone.phase.steps, alone.thawed
    (10, ('encoder.backbone',))
    """
    phases = build(recipe, **changes).recipe.phases
    number = next((i for i, each in enumerate(phases) if each.steps), None) if phase is None else phase
    if number is None:
        raise InputError("no phase of this recipe has steps: there is nothing to train")
    if not 0 <= number < len(phases):
        raise InputError(f"the recipe has no phases.{number}: it has phases 0 to {len(phases) - 1}")
    thawed = {i: rule.of for i, rule in enumerate(phases[number].parameters) if rule.frozen and rule.frozen is not True}
    settings = {f"phases.{i}.steps": 0 for i in range(number)} | {f"phases.{number}.parameters.{i}.frozen": 0 for i in thawed}
    pipeline = build(recipe, **{**changes, **settings, f"phases.{number}.steps": steps, f"phases.{number}.schedule": schedule})
    return PhaseAlone(pipeline, number, tuple(thawed.values()))
