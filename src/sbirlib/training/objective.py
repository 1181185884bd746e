"""One step's objective: the terms of all active losses, weighed and checked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Step
from sbirlib.recipe import Phase
from sbirlib.training.model import Model


class NonFiniteLoss(InputError):
    """A loss term became NaN or infinite."""


def named(name: str, value: Tensor | dict[str, Tensor]) -> dict[tuple[str, str | None], Tensor]:
    """A loss's terms by (loss, term); a loss of one scalar has the term None."""
    return {(name, term): v for term, v in value.items()} if isinstance(value, dict) else {(name, None): value}


def terms(model: Model, phase: Phase, step: Step) -> dict[tuple[str, str | None], Tensor]:
    """Every term of the losses that act in this phase, unweighted."""
    found: dict[tuple[str, str | None], Tensor] = {}
    for name in phase.weights:
        found |= named(name, model.loss(name)(step))
    return found


def discriminator_terms(model: Model, phase: Phase, step: Step) -> dict[tuple[str, str | None], Tensor]:
    """What the discriminators minimise in their turn, on features without gradient."""
    found: dict[tuple[str, str | None], Tensor] = {}
    for name, loss in model.discriminators().items():
        if name in phase.weights:
            found |= named(f"{name}.discriminator", loss.discriminator_loss(step))
    return found


def weighed(found: Mapping[tuple[str, str | None], Tensor], phase: Phase, progress: float) -> Tensor:
    """The sum of all terms by their weights at this point of the phase."""
    return torch.stack([value * phase.weight(name, term, progress) for (name, term), value in found.items()]).sum()


def finite(found: Mapping[tuple[str, str | None], Tensor], where: str) -> dict[str, float]:
    """The terms as numbers, in one transfer; stops at one that is not finite, naming it."""
    names = [name if term is None else f"{name}.{term}" for name, term in found]
    values = torch.stack([value.detach().float() for value in found.values()])
    numbers = dict(zip(names, values.tolist(), strict=True))
    if not bool(torch.isfinite(values).all()):
        name, value = next((n, v) for n, v in numbers.items() if v - v != 0)
        raise NonFiniteLoss(
            f"the loss term {name!r} is {value} at {where}. Usual causes: a learning rate that is too high "
            "(phases.N.optimizer.lr), or an input outside [0, 1]. What was saved before is untouched"
        )
    return numbers
