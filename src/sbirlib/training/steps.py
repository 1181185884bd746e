"""Training, step by step: batch, features, losses, gradient, update. No file, no clock, no registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sbirlib.interfaces import Batch, Sampler, Step
from sbirlib.recipe import Phase
from sbirlib.training.gather import average_gradients, gather
from sbirlib.training.model import Model
from sbirlib.training.objective import discriminator_terms, finite, terms, weighted_sum
from sbirlib.training.plan import PhasePlan, Plan, learning_rates
from sbirlib.training.rules import scale_rates


@dataclass(frozen=True)
class Position:
    """Place in a training: the next step, its phase, its epoch and the batch within it."""

    phase: int = 0
    step: int = 0
    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class StepEvent:
    """A finished optimizer step: number `done` of `total`, counted from 1 over all phases.

    `losses` are the terms before weighting, by name; `step` holds batch, features, distances, triplets and the values that losses logged.
    `phase` is the step's phase, `position` the place after it, and `lr` the rate by rule, "rest" for parameters without one.
    `step.distances` has a graph: detach it before it is kept.
    """

    done: int
    total: int
    phase: int
    position: Position
    losses: Mapping[str, float]
    lr: Mapping[str, float]
    step: Step


Batches = Callable[[Sampler, Position], Iterator[tuple[Position, Batch, bool]]]


def steps(plan: Plan, batches: Batches, start: Position) -> Iterator[StepEvent]:
    """Train phase by phase from `start`, with one event after each step.

    `batches(sampler, position)` yields, without end, the position after a batch, the batch, and whether it is the last of its epoch.
    """
    position, done = start, plan.steps_before(start.phase) + start.step
    for number in range(start.phase, len(plan.phases)):
        for event in _phase(plan, number, batches, position, done):
            position, done = event.position, event.done
            yield event
        position = Position(phase=number + 1, epoch=position.epoch + (position.batch > 0))


def _phase(plan: Plan, number: int, batches: Batches, start: Position, done: int) -> Iterator[StepEvent]:
    this = plan.phases[number]
    phase, rules = this.phase, this.rules
    stream = batches(this.sampler, start)
    rules.apply(start.step)
    for count in range(start.step, phase.steps):
        if count in rules.turning_points:
            rules.apply(count)
        scale_rates(list(this.optimizers.values()), this.schedule.factor(count, phase.steps))
        place, batch, last = next(stream)
        step = forward(plan.model, phase, batch, progress=count / phase.steps, precision=plan.recipe.precision)
        done += 1
        losses = _update(plan.model, this, step, count, where=f"step {done} (phase {number}, step {count + 1})")
        for component in rules.components(count):
            component.after_step(step)
            if last:
                component.end_epoch()
        yield StepEvent(done, plan.total, number, replace(place, phase=number, step=count + 1), losses, learning_rates(this), step)


def forward(model: Model, phase: Phase, batch: Batch, *, progress: float, precision: str = "float32") -> Step:
    """Encode one batch and gather the features of all processes: the input of the phase's losses."""
    encoder = model.encoder.get_submodule(phase.encoder) if phase.encoder else model.encoder
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        local = encoder(batch)
    return Step(gather(local), encoder=model.encoder, batch=batch, local=local, miner=model.miner, progress=progress)


def _update(model: Model, plan: PhasePlan, step: Step, count: int, *, where: str) -> dict[str, float]:
    """Update encoder and losses, then the discriminators; return the terms before weighting."""
    phase, optimizers = plan.phase, plan.optimizers
    values = terms(model, phase, step)
    losses = finite(values, where)
    _descend(optimizers["encoder"], weighted_sum(values, phase, step.progress), phase)
    if "discriminator" in optimizers:
        plan.rules.turn(count, opponents=True)
        values = discriminator_terms(model, phase, step.detach())
        losses |= finite(values, where)
        _descend(optimizers["discriminator"], torch.stack(list(values.values())).sum(), phase)
        plan.rules.turn(count, opponents=False)
    return losses


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, phase: Phase) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    average_gradients(parameters)
    if phase.clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, phase.clip)
    optimizer.step()
