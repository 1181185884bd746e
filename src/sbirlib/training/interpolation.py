"""Interpolation of a trained module with its pretrained weights, by a share that validation chooses."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Encoder
from sbirlib.phase import Validation
from sbirlib.recipe import Recipe
from sbirlib.spec import Spec
from sbirlib.training.best import metric_name
from sbirlib.training.description import Chosen
from sbirlib.training.model import Model
from sbirlib.training.randomness import make_seeded

logger = logging.getLogger(__name__)
State = dict[str, Tensor]


def mixed(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], share: float) -> State:
    """State of a module that has moved by `share` of the way, from 0 to 1, to another state; numbers that are no fractions stay ours."""
    return {
        name: torch.lerp(value, theirs[name].to(value.device), share) if value.is_floating_point() else value
        for name, value in ours.items()
    }


def check_interpolation(model: Model, recipe: Recipe, validated: int) -> None:
    """Raise InputError where a recipe interpolates a module that is not there or cannot be built anew, or has no images to choose the share by."""
    if recipe.interpolate is None:
        return
    paths = [f"encoder.{path}".rstrip(".") for path, _ in model.encoder.named_modules()]
    if recipe.interpolate.module not in paths:
        raise InputError(f"interpolate.module: there is no module {recipe.interpolate.module!r}{nearest(recipe.interpolate.module, paths)}")
    if holds_object(recipe.encoder):
        raise InputError("interpolate needs the pretrained weights again, and the encoder holds an object: name its parts instead")
    if not validated:
        raise InputError("interpolate chooses its share on validation, and the split has no validation images: take one that has")


def choose_share(model: Model, recipe: Recipe, validate: Callable[[], tuple[Mapping[str, float], Any]], step: int) -> Chosen:
    """Set the recipe's module to the share of its pretrained weights with the largest validation metric; the smaller share where two are equal."""
    settings = recipe.interpolate
    assert settings is not None
    own = model.get_submodule(settings.module)
    trained = {name: value.clone() for name, value in own.state_dict().items()}
    pretrained = _pretrained(recipe, settings.module)
    values: dict[float, float] = {}
    shares = sorted(set(settings.shares))
    if all(torch.equal(value, pretrained[name].to(value.device)) for name, value in trained.items()):
        logger.warning(
            "%s has the weights that it began with, so interpolation changes nothing: train it, or leave interpolate out", settings.module
        )
        shares = shares[:1]
    for share in shares:
        own.load_state_dict(mixed(trained, pretrained, share))
        metrics = validate()[0]
        name = metric_name(recipe.validate or Validation(every=1), metrics)
        values[share] = metrics[name] if math.isfinite(metrics[name]) else -math.inf
    best = max(values, key=lambda share: values[share])
    own.load_state_dict(mixed(trained, pretrained, best))
    listing = ", ".join(f"{share:g}: {value:.4f}" for share, value in values.items())
    logger.info("%s has share %g of its pretrained weights (%s on validation: %s)", settings.module, best, name, listing)
    return Chosen(step=step, metric=name, value=values[best], share=best)


def untrained(recipe: Recipe) -> Encoder:
    """The recipe's encoder as it is before training, with its pretrained weights."""
    encoder: Encoder = make_seeded(recipe.encoder, recipe.seed, "encoder")
    Model(encoder).load_weights()
    return encoder


def holds_object(spec: Spec) -> bool:
    """Whether a component, or a part of it, is an object that the caller handed over."""
    parts = spec.options.values()
    return spec.instance is not None or any(holds_object(part) if isinstance(part, Spec) else isinstance(part, nn.Module) for part in parts)


def _pretrained(recipe: Recipe, module: str) -> State:
    encoder = untrained(recipe)
    state: State = encoder.get_submodule(module.removeprefix("encoder").removeprefix(".")).state_dict()
    return state
