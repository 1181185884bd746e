"""Objective of one step: the terms of all active losses, weighted and checked."""

from __future__ import annotations

import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Step
from sbirlib.recipe import Phase
from sbirlib.training.model import Model

Terms = dict[tuple[str, str | None], Tensor]


class NonFiniteLoss(InputError):
    """A loss term became NaN or infinite."""


def named(name: str, value: Tensor | dict[str, Tensor]) -> Terms:
    """Terms of a loss by (loss, term), scalars of shape []; a loss of one scalar has the term None."""
    return {(name, term): v for term, v in value.items()} if isinstance(value, dict) else {(name, None): value}


def terms(model: Model, phase: Phase, step: Step) -> Terms:
    """Every term of the losses that act in this phase, unweighted scalars of shape []."""
    values: Terms = {}
    for name in phase.weights:
        values |= named(name, model.loss(name)(step))
    return values


def discriminator_terms(model: Model, phase: Phase, step: Step) -> Terms:
    """Every term that the discriminators minimise in their turn, scalars of shape [], on features without gradient."""
    values: Terms = {}
    for name, loss in model.discriminators().items():
        if name in phase.weights:
            values |= named(f"{name}.discriminator", loss.discriminator_loss(step))
    return values


def weighted_sum(values: Terms, phase: Phase, progress: float) -> Tensor:
    """Sum of all terms by their weights at `progress`, from 0 to 1, of the phase: a scalar of shape []."""
    return torch.stack([value * phase.weight(name, term, progress) for (name, term), value in values.items()]).sum()


def finite(values: Terms, where: str) -> dict[str, float]:
    """The terms, scalars of shape [], as numbers, in one transfer. Raises NonFiniteLoss for one that is not finite, by its name."""
    names = [name if term is None else f"{name}.{term}" for name, term in values]
    stacked = torch.stack([value.detach().float() for value in values.values()])
    numbers = dict(zip(names, stacked.tolist(), strict=True))
    if not bool(torch.isfinite(stacked).all()):
        name, value = next((n, v) for n, v in numbers.items() if v - v != 0)
        raise NonFiniteLoss(
            f"the loss term {name!r} is {value} at {where}. Usual causes: a learning rate that is too high "
            "(phases.N.optimizer.lr), or an input outside [0, 1]. Earlier checkpoints are untouched"
        )
    return numbers
