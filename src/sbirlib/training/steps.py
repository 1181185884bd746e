"""Training, step by step: batch, features, losses, gradient, update. No file, no clock, no registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from sbirlib.gather import gather, lengths
from sbirlib.interfaces import Batch, Encoder, Features, Sampler, Step
from sbirlib.phase import Phase
from sbirlib.training.average import averaged, share_buffers
from sbirlib.training.cache.entry import Entry
from sbirlib.training.cache.features import with_features
from sbirlib.training.gradient_cache import GradientCache
from sbirlib.training.model import Model
from sbirlib.training.norms import prepare_norms
from sbirlib.training.objective import (
    Turn,
    Values,
    check_descent,
    check_finite,
    check_gradients,
    check_parameters,
    discriminator_terms,
    mean_of,
    terms,
    values_of,
    weighted_sum,
)
from sbirlib.training.plan import PhasePlan, Plan, learning_rates
from sbirlib.training.rules import scale_rates
from sbirlib.training.sharding import assembled, mixed
from sbirlib.whole_batch import whole_batch


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

    `values` are the terms before weighting, and `losses` the same as numbers, by name; `step` holds batch, features, distances, triplets and the
    values that losses logged, of the last batch where a step has several. `phase` is the step's phase, `position` the place after it, and `lr` the
    rate by rule, "rest" for parameters without one. `step.distances` has a graph: detach it before it is kept.
    """

    done: int
    total: int
    phase: int
    position: Position
    values: Values
    lr: Mapping[str, float]
    step: Step

    @property
    def losses(self) -> Mapping[str, float]:
        """The terms as numbers; on a GPU the first reading waits for the step to end."""
        return self.values.numbers


Batches = Callable[[Sampler, Position], Iterator[tuple[Position, Batch, bool]]]


def steps(plan: Plan, batches: Batches, start: Position, *, check_every: int = 1) -> Iterator[StepEvent]:
    """Train phase by phase from `start`, with one event after each step.

    `batches(sampler, position)` yields, without end, the position after a batch, the batch, and whether it is the last of its epoch. Terms are
    checked to be finite every `check_every` steps, all those since the last check; above 1, no step waits for a GPU in between. Batch norms
    that are to be recalibrated are so before the first step.
    """
    prepare_norms(plan, lambda sampler: (batch for _, batch, _ in batches(sampler, Position())))
    position, done = start, plan.steps_before(start.phase) + start.step
    for number in range(start.phase, len(plan.phases)):
        with with_features(plan, plan.phases[number], batches) as (stream, entry):
            for event in _phase(plan, number, stream(plan.phases[number].sampler, position), entry, position, done, check_every):
                position, done = event.position, event.done
                yield event
        position = Position(phase=number + 1, epoch=position.epoch + (position.batch > 0))


def _phase(
    plan: Plan,
    number: int,
    stream: Iterator[tuple[Position, Batch, bool]],
    entry: Entry | None,
    start: Position,
    done: int,
    check_every: int,
) -> Iterator[StepEvent]:
    this = plan.phases[number]
    phase, rules = this.phase, this.rules
    unchecked: list[Values] = []
    rules.apply(start.step)
    for count in range(start.step, phase.steps):
        if count in rules.turning_points:
            rules.apply(count)
        scale_rates(list(this.optimizers.values()), this.schedule.factor(count, phase.steps))
        done += 1
        where = f"step {done} (phase {number}, step {count + 1})"
        update = _Update(plan, this, count, where, entry, immediate=check_every == 1)
        last: list[bool] = []  # of its epoch, for each batch
        for _ in range(phase.accumulate):
            with record_function("sbirlib:load"):
                place, batch, ends = next(stream)
            last.append(ends)
            update.add(batch)
        values = update.finish()
        unchecked.append(values)
        if len(unchecked) >= check_every or count + 1 == phase.steps:
            for each in unchecked:
                check_finite(each, plan.model, update.steps[-1] if each is values else None)  # read before where every step is checked
            unchecked = []
        if count + 1 == phase.steps:
            check_parameters([p for optimizer in this.optimizers.values() for p in _parameters(optimizer)], plan.model, where)
            if phase.batch_norm == "local":
                share_buffers(plan.model)
        for component in rules.components(count):
            for step, ends in zip(update.steps, last, strict=True):
                component.after_step(step)
                if ends:
                    component.end_epoch()
        position = replace(place, phase=number, step=count + 1)
        yield StepEvent(done, plan.total, number, position, values, learning_rates(this), update.steps[-1])


class _Update:
    """One optimizer step: gradients of one batch or several, the encoder's update, then the discriminators'."""

    def __init__(self, plan: Plan, this: PhasePlan, count: int, where: str, entry: Entry | None, *, immediate: bool) -> None:
        self.plan, self.this, self.count, self.where, self.entry, self.immediate = plan, this, count, where, entry, immediate
        self.steps: list[Step] = []
        self.values: list[Values] = []
        this.optimizers["encoder"].zero_grad(set_to_none=True)

    def add(self, batch: Batch) -> None:
        """Encode a batch, and add the gradient of its losses; the mean over processes is taken with the last batch."""
        model, phase, optimizer = self.plan.model, self.this.phase, self.this.optimizers["encoder"]
        step, cache = forward(
            model, phase, batch, progress=self.count / phase.steps, precision=self.plan.recipe.precision, entry=self.entry
        )
        with record_function("sbirlib:losses"), _whole_batch(phase, draws=False):
            turn = Turn(model, step, terms(model, phase, step), self.where)
            total = weighted_sum(turn.values, phase, step.progress)
        self.steps.append(step)
        self.values.append(self._checked(turn))
        check_descent(total, turn)
        self.turn = turn
        self._backward(total, optimizer, last=len(self.steps) == phase.accumulate, cache=cache)

    def finish(self) -> Values:
        """Update the parameters; return the terms before weighting."""
        optimizers, rules = self.this.optimizers, self.this.rules
        values = mean_of(self.values)
        self._descend(optimizers["encoder"], self.turn)
        if "discriminator" in optimizers:
            rules.turn(self.count, opponents=True)
            values = values + self._oppose(optimizers["discriminator"])
            rules.turn(self.count, opponents=False)
        return values

    def _oppose(self, optimizer: torch.optim.Optimizer) -> Values:
        """The discriminators' turn, on the features of the encoder's."""
        model, phase = self.plan.model, self.this.phase
        optimizer.zero_grad(set_to_none=True)
        trains = any(parameter.requires_grad for parameter in _parameters(optimizer))  # else a rule freezes them for now
        values: list[Values] = []
        for step in self.steps:
            with record_function("sbirlib:losses"), _whole_batch(phase, draws=False):
                turn = Turn(model, alone := step.detach(), discriminator_terms(model, phase, alone), self.where)
            values.append(self._checked(turn))
            if trains:
                total = torch.stack(list(turn.values.values())).sum()
                check_descent(total, turn)
                self._backward(total, optimizer, last=len(values) == len(self.steps))
        if trains:
            self._descend(optimizer, turn)
        return mean_of(values)

    def _checked(self, turn: Turn) -> Values:
        """The turn's terms, which are finite where they are read at once."""
        values = values_of(turn)
        if self.immediate:
            check_finite(values, turn.model, turn.step)
        return values

    def _backward(self, total: Tensor, optimizer: torch.optim.Optimizer, *, last: bool, cache: GradientCache | None = None) -> None:
        """Add the gradient of a weighted sum, a scalar []; with the last batch of a step take the mean over processes."""
        count = self.this.phase.accumulate
        gpu = total.device.type == "cuda"  # on the CPU a message would take the cores of the backward pass
        mean = averaged(_parameters(optimizer), overlap=gpu and cache is None) if last else nullcontext()
        with mean, record_function("sbirlib:backward"):
            (total if count == 1 else total / count).backward()
            if cache is not None:
                cache.backward()

    def _descend(self, optimizer: torch.optim.Optimizer, turn: Turn) -> None:
        """Update the optimizer's parameters by their gradients."""
        clip, parameters = self.this.phase.clip, _parameters(optimizer)
        with record_function("sbirlib:update"), mixed(parameters):
            if clip is not None or self.immediate:
                norm = assembled(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
                if self.immediate:
                    check_gradients(parameters, norm, turn)
                if clip is not None:
                    torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            optimizer.step()


def forward(
    model: Model, phase: Phase, batch: Batch, *, progress: float, precision: str = "float32", entry: Entry | None = None
) -> tuple[Step, GradientCache | None]:
    """Encode one batch and gather the features of all processes: the input of the phase's losses, and the gradient cache of a phase in chunks.

    Where there is an `entry`, the batch holds cached features, with which the encoder is entered.
    """
    encoder: Encoder = model.encoder.get_submodule(phase.encoder) if phase.encoder else model.encoder  # type: ignore[assignment]

    def encode(images: Batch) -> Features:
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(images.images.device.type, torch.bfloat16, enabled=precision == "bfloat16"))
            stack.enter_context(_whole_batch(phase, draws=True))
            if entry is not None:
                stack.enter_context(entry.entered())
            features: Features = encoder(images)
        return features

    with record_function("sbirlib:encode"):
        whole = phase.chunk is None or max(lengths(len(batch))) <= phase.chunk  # in every process, as shares of a last batch differ
        cache = None if whole or phase.chunk is None else GradientCache(encode, encoder, batch, phase.chunk)
        local = encode(batch) if cache is None else cache.features
    with record_function("sbirlib:gather"):
        features = gather(local, len(batch))
    return Step(features, encoder=model.encoder, batch=batch, local=local, miner=model.miner, progress=progress), cache


def _whole_batch(phase: Phase, *, draws: bool) -> AbstractContextManager[Any]:
    return whole_batch(draws=draws, norms=phase.batch_norm == "global")


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
