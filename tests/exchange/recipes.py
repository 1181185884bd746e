"""Recipes with tiny networks whose every weight counts: none is zero, and batch norms have statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sbirlib import recipe_file, registry
from sbirlib.pipeline import Pipeline
from sbirlib.recipe import Recipe
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject, seeded

FEW = {"width": 16, "channels": 4, "blocks": 1, "hidden": 32, "latent": 8, "draws": 3, "grid": 2, "rows": 40, "clusters": 40}
NAMES = sorted(entry.name for entry in registry.scan().entries if entry.kind == "recipe")


def tiny(name: str) -> Pipeline:
    """The recipe's pipeline on 32 pixels, of the same components."""
    encoder = Recipe.of(recipe_file.read(name)).tables()["encoder"]
    pipeline = small(Subject("recipe", name, _few(encoder, "encoder")))
    with seeded(0):
        awaken(pipeline.encoder)
    return pipeline


def _few(table: dict[str, Any], place: str) -> dict[str, Any]:
    """Options that make an encoder small, and those inside it, by their dotted keys."""
    few = {f"{place}.{option}": value for option, value in FEW.items() if option in table}
    if table["name"] == "landmark":  # on a map of 4 x 4 cells
        few |= {f"{place}.landmarks": min(4, table["landmarks"]), f"{place}.encoder.output_stride": 8}
    for option, value in table.items():
        if isinstance(value, dict) and "name" in value:
            few |= _few(value, f"{place}.{option}")
    return few


@torch.no_grad()
def awaken(encoder: nn.Module) -> None:
    """Noise in the place of weights that are initialised to zero, and statistics as after training."""
    for parameter in encoder.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
