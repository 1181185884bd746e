"""Objective of one step: the terms of all active losses, weighted, and checked for a gradient and for finite values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Features, Step
from sbirlib.phase import Phase
from sbirlib.processes import mean
from sbirlib.training.model import Model

Terms = dict[tuple[str, str | None], Tensor]

OPPONENT = ".discriminator"  # ends the name of a loss in its discriminator's turn
CAUSES = (
    "Usual causes: a learning rate that is too high (phases.N.optimizer.lr), rows that coincide or are zero under a loss that divides by a "
    "length or a distance, or an input outside [0, 1]. Earlier checkpoints are untouched"
)


class NonFiniteLoss(InputError):
    """A loss term became NaN or infinite."""


class NonFiniteGradient(InputError):
    """The gradient became NaN or infinite, of loss terms that are finite."""


@dataclass(frozen=True)
class Turn:
    """One turn of a step, the encoder's or the discriminators': its terms, and the model and the step that they were computed from."""

    model: Model
    step: Step
    values: Terms
    where: str

    @property
    def names(self) -> list[str]:
        """Names of the terms in logs and messages."""
        return [label(*key) for key in self.values]


def named(name: str, value: Tensor | dict[str, Tensor]) -> Terms:
    """Terms of a loss by (loss, term), scalars of shape []; a loss of one scalar has the term None."""
    return {(name, term): v for term, v in value.items()} if isinstance(value, dict) else {(name, None): value}


def label(name: str, term: str | None) -> str:
    """Name of a term in logs and messages."""
    return name if term is None else f"{name}.{term}"


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
            values |= named(name + OPPONENT, loss.discriminator_loss(step))
    return values


def weighted_sum(values: Terms, phase: Phase, progress: float) -> Tensor:
    """Sum of all terms by their weights at `progress`, from 0 to 1, of the phase: a scalar of shape []."""
    return torch.stack([value * phase.weight(name, term, progress) for (name, term), value in values.items()]).sum()


@dataclass(frozen=True)
class Values:
    """Terms of a step by name, the means over processes, on their device until they are read; `where` names the step."""

    names: tuple[str, ...]
    tensor: Tensor
    where: str

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The terms as numbers, in one transfer."""
        return dict(zip(self.names, self.tensor.tolist(), strict=True))

    def __add__(self, other: Values) -> Values:
        return Values(self.names + other.names, torch.cat([self.tensor, other.tensor]), self.where)


def values_of(turn: Turn) -> Values:
    """The turn's terms, each the mean over processes, as a tensor [T]."""
    stacked = torch.stack([value.detach().float() for value in turn.values.values()])
    return Values(tuple(turn.names), mean(stacked), turn.where)


def mean_of(values: Sequence[Values]) -> Values:
    """The mean of the same terms [T] over the batches of a step."""
    return values[0] if len(values) == 1 else Values(values[0].names, torch.stack([v.tensor for v in values]).mean(0), values[0].where)


def check_finite(values: Values, model: Model, step: Step | None = None) -> None:
    """Raise NonFiniteLoss for a term that is not finite, by its name; `step` is the one that it was computed from, if that is still known."""
    name, value = next(((n, v) for n, v in values.numbers.items() if v - v != 0), ("", 0.0))
    if name:
        spoilt = _not_finite(model.parameters())
        before = f" Nor is {_named(spoilt, model)}: a gradient or an update of an earlier step was not finite." if spoilt and step else ""
        read = f" {reading(step)}." if step else ""
        raise NonFiniteLoss(f"the loss term {name!r} is {value} at {values.where}.{read}{before} {CAUSES}")


def check_descent(total: Tensor, turn: Turn) -> None:
    """Raise InputError unless the sum of the turn's terms `total`, a scalar [], depends on a parameter that trains."""
    if not total.requires_grad:
        raise InputError(
            f"no loss has a gradient at {turn.where}: none of {', '.join(map(repr, turn.names))} depends on a parameter that trains in this phase. "
            "Add a loss that does (phases.N.weights), train a module that the losses read (phases.N.encoder), or thaw one (phases.N.parameters). "
            "A loss of one's own that has no valid row is zero times the rows' sum, and no constant"
        )


def check_gradients(parameters: Iterable[Tensor], norm: Tensor, turn: Turn) -> None:
    """Raise NonFiniteGradient where a parameter's gradient is not finite, by the term it comes from; `norm` [] is that of all gradients."""
    if bool(norm.isfinite()):
        return
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    spoilt = [p for p in trained if p.grad is not None and not bool(p.grad.isfinite().all())]
    if not spoilt:
        return  # their squares alone are too large
    sources = " and ".join(map(repr, spoilt_terms(turn)))
    source = f"it is that of the loss term {sources}" if sources else "it arises in the encoder, for those of the loss terms are finite"
    raise NonFiniteGradient(
        f"the gradient is not finite at {turn.where}, for {_named(spoilt, turn.model)}: {source}. {reading(turn.step)}. These parameters "
        f"are still as they were before this step. {CAUSES}"
    )


def check_parameters(parameters: Iterable[Tensor], model: Model, where: str) -> None:
    """Raise NonFiniteGradient where a parameter is not finite after a step."""
    if spoilt := _not_finite(parameters):
        raise NonFiniteGradient(
            f"after {where} there are values that are not finite in {_named(spoilt, model)}: a gradient or an update was not finite, in this "
            f"step or one before. {CAUSES}"
        )


def spoilt_terms(turn: Turn) -> list[str]:
    """Names of the terms whose own gradient, by the step's features or the loss's parameters, is not finite."""
    names: list[str] = []
    for name in dict.fromkeys(name for name, _ in turn.values):
        with contextlib.suppress(Exception):  # a search for the cause of an error must not hide it
            step, leaves = _with_leaves(turn.step)
            loss = turn.model.loss(name.removesuffix(OPPONENT))
            value = turn.model.discriminators()[name.removesuffix(OPPONENT)].discriminator_loss(step) if OPPONENT in name else loss(step)
            inputs = [*leaves, *(parameter for parameter in loss.parameters() if parameter.requires_grad)]
            names += [label(*key) for key, term in named(name, value).items() if not _has_finite_gradient(term, inputs)]
    return names


def reading(step: Step) -> str:
    """Range of the values that the losses read, in words."""
    features = step.features
    entries = {"embedding": features.embedding, **features.rows, **features.images}
    entries |= {"distances": step.distances} if "distances" in vars(step) else {}
    ranges = [f"{name} {_range(value)}" for name, value in entries.items() if value.is_floating_point() and value.numel()]
    rows = features.embedding.detach()
    lengths = (
        f"; lengths of embeddings {_range(rows.norm(dim=1))}, {len(rows.unique(dim=0))} of {len(rows)} distinct" if rows.numel() else ""
    )
    return f"It read: {', '.join(ranges) or 'no row'}{lengths}"


def _with_leaves(step: Step) -> tuple[Step, list[Tensor]]:
    """The same step, with features that end their graph, and those features that are floating-point."""
    leaves: list[Tensor] = []

    def leaf(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        leaves.append(value.detach().requires_grad_())
        return leaves[-1]

    def cut(features: Features) -> Features:
        return replace(features.map(leaf), images={name: leaf(value) for name, value in features.images.items()})

    features = cut(step.features)
    local = features if step.local is step.features else cut(step.local)
    again = Step(features, encoder=step.encoder, batch=step.batch, local=local, miner=step.miner, progress=step.progress)
    if "triplets" in vars(step):
        again.triplets = step.triplets  # a random miner would choose others
    return again, leaves


def _has_finite_gradient(term: Tensor, inputs: Sequence[Tensor]) -> bool:
    if not term.requires_grad:
        return True
    gradients = torch.autograd.grad(term, inputs, allow_unused=True, retain_graph=True)
    return all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)


def _not_finite(values: Iterable[Tensor]) -> list[Tensor]:
    return [value for value in values if not bool(value.isfinite().all())]


def _named(parameters: Sequence[Tensor], model: Model) -> str:
    """Some of the model's parameters, in words."""
    name = next(name for name, parameter in model.named_parameters() if parameter is parameters[0])
    return name if len(parameters) == 1 else f"{name} and {len(parameters) - 1} more parameters"


def _range(values: Tensor) -> str:
    return f"{values.detach().min().item():.3g} to {values.detach().max().item():.3g}"
