"""Phases of a recipe, with their rules and weights, its validation, and how it searches: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Le, MinLen

from sbirlib.errors import InputError, nearest
from sbirlib.options import Betas
from sbirlib.spec import Spec


@dataclass(frozen=True)
class Ramp:
    """A weight that moves linearly from `start` to `end` over its phase."""

    start: float
    end: float

    def at(self, progress: float) -> float:
        """The weight at `progress`, from 0 to 1."""
        return self.start + (self.end - self.start) * progress


Weight = float | Ramp


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Settings of the parameters `of` a name, a dotted prefix or a wildcard; of two rules for one parameter the later wins.

    Args:
        of: a parameter's name, a dotted prefix or a wildcard, such as "encoder.backbone"
        lr: learning rate in place of the optimizer's
        weight_decay: weight decay in place of the optimizer's
        betas: Adam's betas in place of the optimizer's
        frozen: steps without training, or true for the whole phase
        eval: keep batch norms in eval mode
        only: "norms": of the parameters named, those of normalisation layers alone
        decay: factor on the rate from each layer of a timm backbone to the layer before it; the last layer has the rate itself
    """

    of: str
    lr: Annotated[float, Ge(0)] | None = None
    weight_decay: Annotated[float, Ge(0)] | None = None
    betas: Betas | None = None
    frozen: bool | Annotated[int, Ge(0)] | None = None
    eval: bool | None = None
    only: Literal["norms"] | None = None
    decay: Annotated[float, Gt(0), Le(1)] | None = None


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Features of the training images up to a module, kept on disk, for a phase that freezes all on the way to it.

    Args:
        module: path of the module whose output is kept, such as "encoder.backbone.blocks.4"
        draws: draws of the augmentation of an image, which epochs take in turn
    """

    module: str
    draws: Annotated[int, Ge(1)] = 8


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with its own losses, optimizer and sampler.

    Args:
        steps: optimizer steps; 0 leaves the phase out
        weights: weight of each loss that acts, a number, a ramp {from, to}, or a table of those by term
        optimizer: optimizer of encoder and losses
        schedule: factor on the learning rates over the phase
        parameters: rules for parameters by name
        sampler: sampler of this phase, in place of the recipe's
        encoder: module path of the one encoder inside the encoder that is run and trained
        discriminator: optimizer of the discriminators, in place of `optimizer`
        clip: largest norm of the gradient
        accumulate: batches of the sampler an optimizer step, whose gradients are averaged; each has distances and triplets of its own
        chunk: images encoded at once by gradient caching, so that losses see the whole batch in the memory of a chunk; none encodes it whole
        batch_norm: statistics of batch norms over the images of all processes, or of each process
        cache: features up to a frozen module {module, draws}, computed once an image and draw of the augmentation; none computes them in each step
    """

    steps: Annotated[int, Ge(0)]
    weights: dict[str, Weight | dict[str, Weight]] = field(default_factory=dict)
    optimizer: Spec
    schedule: Spec
    parameters: tuple[Rule, ...] = ()
    sampler: Spec | None = None
    encoder: str | None = None
    discriminator: Spec | None = None
    clip: Annotated[float, Gt(0)] | None = None
    accumulate: Annotated[int, Ge(1)] = 1
    chunk: Annotated[int, Ge(2)] | None = None
    batch_norm: Literal["global", "local"] = "global"
    cache: Cache | None = None

    def weight(self, loss: str, term: str | None, progress: float) -> float:
        """The weight of one term of a loss at `progress`, from 0 to 1, of the phase."""
        value = self.weights[loss]
        if isinstance(value, dict):
            if term not in value:
                raise InputError(f"weights.{loss} names no term {term!r}{nearest(str(term), value)}")
            value = value[term]
        return value.at(progress) if isinstance(value, Ramp) else float(value)

    def trains(self, loss: str) -> bool:
        """Whether a loss, or a term of it, has a weight that is not zero."""
        value = self.weights.get(loss, 0.0)
        return any(weight != 0 for weight in (value.values() if isinstance(value, dict) else [value]))


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """After training, weights of a module between its own and its pretrained ones (Wortsman et al. 2022); validation chooses how far.

    Args:
        module: path of the module, such as "encoder.backbone"
        shares: shares of the pretrained weights that are tried, from 0, the trained module, to 1, the pretrained one
    """

    module: str = "encoder.backbone"
    shares: Annotated[Sequence[Annotated[float, Interval(ge=0, le=1)]], MinLen(1)] = (0.0, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """Query expansion: a query moves towards the photos that it finds, and is asked again; for photos of which many are alike.

    Args:
        photos: number k of photos that a query moves towards
        power: exponent a of their scores, by which they are weighed; 0 weighs them alike
        weight: weight w of their mean beside the query's 1
        rounds: times that the photos are searched before the last search
    """

    photos: Annotated[int, Ge(1)] = 10
    power: Annotated[float, Ge(0)] = 3.0
    weight: Annotated[float, Gt(0)] = 4.0
    rounds: Annotated[int, Ge(1)] = 3


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Validation during training: the weights with the largest value of a metric on the validation split are the trained model.

    Args:
        every: steps between validations
        metric: metric of the recipe's evaluators that decides, such as "mAP@all"; the first one where none
        average: mean of the metric over queries, or over the means of classes
        patience: validations without a larger value, after which training ends; none trains all steps
    """

    every: Annotated[int, Ge(1)]
    metric: str | None = None
    average: Literal["query", "class"] = "query"
    patience: Annotated[int, Ge(1)] | None = None
