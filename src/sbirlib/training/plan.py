"""Plan of a training: a recipe made into objects, once, with everything that can be checked before the first image is read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Labels, Loss, Sampler, Schedule
from sbirlib.options import options_of
from sbirlib.phase import Phase
from sbirlib.processes import world_size
from sbirlib.recipe import Recipe
from sbirlib.retrieval.expansion import check_space
from sbirlib.training.cache.checks import check_entry, check_module
from sbirlib.training.model import Model
from sbirlib.training.randomness import make_seeded
from sbirlib.training.rules import Rules
from sbirlib.training.sharding import check_sharding

logger = logging.getLogger(__name__)

Optimizers = dict[str, torch.optim.Optimizer]


@dataclass(frozen=True)
class PhasePlan:
    """Objects of one phase. `optimizers` has "encoder", for encoder and losses, and "discriminator", where a loss has one.

    `group_names` names the parameter groups of each optimizer, by the rules that set them apart.
    """

    phase: Phase
    sampler: Sampler
    rules: Rules
    optimizers: Optimizers
    schedule: Schedule
    group_names: dict[str, list[str]]


@dataclass(frozen=True)
class Plan:
    """Objects of a training: the model with its losses, and a plan for each phase."""

    model: Model
    recipe: Recipe
    phases: tuple[PhasePlan, ...]

    @property
    def total(self) -> int:
        """Optimizer steps of all phases."""
        return sum(plan.phase.steps for plan in self.phases)

    def steps_before(self, phase: int) -> int:
        """Optimizer steps of the phases before this one."""
        return sum(plan.phase.steps for plan in self.phases[:phase])

    def renewed(self) -> Plan:
        """The plan with new optimizers, for parameters that have taken the place of others in the model."""
        return replace(self, phases=tuple(replace(this, optimizers=_optimizers(this.rules, this.phase)) for this in self.phases))

    def batches_before(self, phase: int, step: int) -> int:
        """Batches before this step of a phase, those of the phases before it included."""
        before = sum(plan.phase.steps * plan.phase.accumulate for plan in self.phases[:phase])
        return before + step * self.phases[phase].phase.accumulate


def plan_training(model: Model, recipe: Recipe, labels: Labels, *, shard: bool = False) -> Plan:
    """The plan of a model that has its losses; with `shard` its encoder's weights are to be divided among processes.

    Raises InputError where a rule names nothing, nothing trains, no batch can be sampled, or the weights cannot be divided.
    """
    samplers = [make_seeded(phase.sampler or recipe.sampler, recipe.seed, "sampler") for phase in recipe.phases]
    phases = []
    for number, (phase, sampler) in enumerate(zip(recipe.phases, samplers, strict=True)):
        rules = Rules(model, phase)
        if phase.cache is not None:
            check_module(model, phase, compiles=recipe.compile, shards=shard)
        schedule = make_seeded(phase.schedule, recipe.seed, f"phases.{number}.schedule")
        names = {name: rules.group_names(opponents=name == "discriminator") for name in ("encoder", "discriminator")}
        phases.append(PhasePlan(phase, sampler, rules, _optimizers(rules, phase), schedule, names))
        if phase.steps:
            batches = _batches(sampler, labels, recipe.seed)
            _check_categories(recipe, phase, batches, labels)
    plan = Plan(model, recipe, tuple(phases))
    if shard:
        check_sharding(plan)
    return plan


@torch.no_grad()
def check_encoders(plan: Plan, batch: Batch) -> None:
    """Encode a few images [B, 3, H, W] in eval mode as each phase will, so that a later phase cannot fail for want of a sound input."""
    with eval_mode(plan.model):
        for path in dict.fromkeys(this.phase.encoder or "" for this in plan.phases if this.phase.steps):
            plan.model.encoder.get_submodule(path)(batch)
        if plan.recipe.expansion is not None:
            with torch.no_grad():
                check_space(plan.model.encoder.query_vectors(batch), plan.model.encoder.gallery_vectors(batch))
        for this in plan.phases:
            if this.phase.steps and this.phase.cache is not None:
                check_entry(plan.model, this.phase, this.rules, batch)


@contextmanager
def eval_mode(model: Model) -> Iterator[None]:
    """Eval mode inside the block; afterwards each module has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def make_losses(recipe: Recipe, model: Model, categories: int, instances: int) -> dict[str, Loss]:
    """The recipe's losses for so many categories and instances. Raises InputError for one that lacks an input, or has another `dim`."""
    losses = {}
    for name, spec in recipe.losses.items():
        encoders = _encoders_of(name, recipe, model.encoder)
        supplied = {"dim": encoders[0].dim, "vector_dim": encoders[0].vector_dim, "categories": categories, "instances": instances}
        loss: Loss = make_seeded(spec, recipe.seed, f"losses.{name}", **supplied)
        _check_needs(name, loss, encoders, has_miner=model.miner is not None)
        _check_dim(name, recipe, encoders)
        losses[name] = loss
    return losses


def _encoders_of(loss: str, recipe: Recipe, encoder: Encoder) -> list[Encoder]:
    """The encoders whose features a loss reads: those that its phases run; the whole encoder, if it acts in none."""
    inner = {name: module for name, module in encoder.named_modules() if isinstance(module, Encoder)}
    paths = {phase.encoder or "" for phase in recipe.phases if loss in phase.weights}
    return [inner[path] for path in sorted(paths) if path in inner] or [encoder]  # Rules refuses a path that names no module


def _check_needs(name: str, loss: Loss, encoders: Sequence[Encoder], *, has_miner: bool) -> None:
    for encoder in encoders:
        provided = encoder.provides | {"images"} | ({"triplets"} if has_miner else set())
        for need in sorted(loss.needs - provided):
            way = "give the recipe a miner" if need == "triplets" else "choose an encoder that provides it"
            raise InputError(
                f"loss {name!r} needs {need!r}, which nothing here provides: {way} (provided: {', '.join(sorted(provided)) or 'nothing'})"
            )


def _check_dim(name: str, recipe: Recipe, encoders: Sequence[Encoder]) -> None:
    spec = recipe.losses[name]
    for option, read in (("dim", "embedding"), ("vector_dim", "vector")):
        dims, dim = sorted({getattr(encoder, option) for encoder in encoders}), spec.options.get(option)
        there = " and ".join(map(str, dims))
        if dim is not None and dims != [dim]:
            raise InputError(
                f"losses.{name}.{option} is {dim}, but the {read} it reads has {there} dimensions: leave it out to have it filled in"
            )
        if len(dims) > 1 and spec.instance is None and option in options_of(spec.constructor()):
            raise InputError(f"loss {name!r} acts in phases with {read}s of {there} dimensions: give each phase its own loss")


def _optimizers(rules: Rules, phase: Phase) -> Optimizers:
    if phase.steps == 0:
        return {}
    optimizers: Optimizers = {}
    for name, spec in (("encoder", phase.optimizer), ("discriminator", phase.discriminator or phase.optimizer)):
        if groups := rules.groups(opponents=name == "discriminator"):
            optimizers[name] = spec.make(groups)
    if "encoder" not in optimizers:
        raise InputError("nothing trains in this phase: its rules freeze every parameter")
    if all(rules.frozen(name, 0) for name, _ in rules.model.named_parameters() if not rules.opposes(name)):
        raise InputError(
            "nothing trains in this phase at first: its rules freeze every parameter for some steps; let one train from the start"
        )
    return optimizers


def warn_of_long_starts(plan: Plan) -> None:
    """Warn of a warm-up or a freeze that lasts as long as its phase, as in a recipe whose steps alone were made fewer."""
    for number, phase in enumerate(this.phase for this in plan.phases):
        starts = {"schedule.warmup": phase.schedule.options.get("warmup")} | {f"{rule.of} frozen": rule.frozen for rule in phase.parameters}
        for setting, steps in starts.items():
            if isinstance(steps, int) and not isinstance(steps, bool) and steps >= phase.steps > 0:
                logger.warning("phases.%d: %s = %d lasts as long as the phase of %d steps: set both", number, setting, steps, phase.steps)


def _batches(sampler: Sampler, labels: Labels, seed: int) -> list[list[int]]:
    """Batches of the first epoch. Raises InputError where the sampler has none for these labels, or one that the processes cannot share."""
    batches = sampler.batches(labels, seed=seed, epoch=0)
    if not batches or not all(batches):
        raise InputError(f"{type(sampler).__name__} gives no batch of {len(labels)} training images: take smaller batches, or more images")
    if world_size() > 1:
        check_shares(batches, np.asarray(labels.modality), world_size())
    return batches


def _check_categories(recipe: Recipe, phase: Phase, batches: Sequence[Sequence[int]], labels: Labels) -> None:
    """Raise InputError for an image without a category in the batches of a loss that has a number for each: a GPU would only fail."""
    numbered = [
        name
        for name in phase.weights
        if recipe.losses[name].instance is None and "categories" in options_of(recipe.losses[name].constructor())
    ]
    without = sum(int((np.asarray(labels.category)[batch] < 0).sum()) for batch in batches) if numbered else 0
    if without:
        raise InputError(
            f"{without} images of an epoch have no category, which the loss {numbered[0]!r} needs: give each a class, or take a sampler that leaves "
            "them out, such as balanced"
        )


def check_shares(batches: Sequence[Sequence[int]], modality: NDArray[np.int64], processes: int) -> None:
    """Raise InputError unless so many processes can share the batches: full ones evenly, and not always with one modality [n] for some.

    The last batch of an epoch may be smaller, and its shares then differ by an image.
    """
    size = max(len(batch) for batch in batches)
    alike = False
    way = "change the sampler's sizes, or the number of processes"
    for batch in batches:
        if len(batch) % processes and (len(batch) == size or batch is not batches[-1]):
            raise InputError(f"a batch of {len(batch)} images cannot be shared evenly by {processes} processes: {way}")
        if len(batch) < processes:
            raise InputError(f"the last batch of an epoch has {len(batch)} images for {processes} processes: {way}")
        shares = [set(modality[share(batch, number, processes)].tolist()) for number in range(processes)]
        alike |= len(batch) == size and all(own == shares[0] for own in shares)
    if not alike:  # in a few batches chance may do the same, and does no harm
        raise InputError(f"of {processes} processes some would have sketches alone, or photos alone, as with fewer classes a batch: {way}")


def share(indices: Sequence[int], number: int, processes: int) -> Sequence[int]:
    """Images of a batch for the process of that number: consecutive ones, in the order of the batch.

    >>> [share([5, 6, 7, 8, 9], number, 2) for number in range(2)]
    [[5, 6, 7], [8, 9]]
    """
    each, more = divmod(len(indices), processes)
    start = number * each + min(number, more)
    return indices[start : start + each + (number < more)]


def learning_rates(plan: PhasePlan) -> Mapping[str, float]:
    """The learning rate of each parameter group, by its name."""
    rates: dict[str, float] = {}
    for name, optimizer in plan.optimizers.items():
        labels = plan.group_names[name]
        rates |= {label: float(group["lr"]) for label, group in zip(labels, optimizer.param_groups, strict=True)}
    return rates
