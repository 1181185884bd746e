"""Training, step by step: batch, features, losses, gradient, update. No file, no clock, no registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sbirlib.interfaces import Batch, Sampler, Step
from sbirlib.recipe import Phase
from sbirlib.training.gather import average_gradients, gather
from sbirlib.training.model import Model
from sbirlib.training.objective import (
    Turn,
    check_descent,
    check_gradients,
    check_parameters,
    discriminator_terms,
    finite,
    terms,
    weighted_sum,
)
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
        where = f"step {done} (phase {number}, step {count + 1})"
        losses = _update(plan.model, this, step, count, where=where)
        if count + 1 == phase.steps:
            check_parameters([p for optimizer in this.optimizers.values() for p in _parameters(optimizer)], plan.model, where)
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
    turn = Turn(model, step, terms(model, phase, step), where)
    losses = finite(turn)
    _descend(optimizers["encoder"], weighted_sum(turn.values, phase, step.progress), turn, clip=phase.clip)
    if "discriminator" in optimizers:
        plan.rules.turn(count, opponents=True)
        alone = step.detach()
        turn = Turn(model, alone, discriminator_terms(model, phase, alone), where)
        losses |= finite(turn)
        if any(parameter.requires_grad for parameter in _parameters(optimizers["discriminator"])):  # else a rule freezes them for now
            _descend(optimizers["discriminator"], torch.stack(list(turn.values.values())).sum(), turn, clip=phase.clip)
        plan.rules.turn(count, opponents=False)
    return losses


def _descend(optimizer: torch.optim.Optimizer, total: Tensor, turn: Turn, *, clip: float | None) -> None:
    """Update the optimizer's parameters by the gradient of the turn's weighted sum `total`, a scalar []."""
    check_descent(total, turn)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    parameters = _parameters(optimizer)
    average_gradients(parameters)
    if clip is not None or total.device.type == "cpu":  # an accelerator would have to wait for its gradients
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if total.device.type == "cpu":
            check_gradients(parameters, norm, turn)
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    optimizer.step()


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
