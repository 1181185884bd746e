"""Recipes with tiny networks whose every weight counts: none is zero, and batch norms have statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sbirlib import recipe_file, registry
from sbirlib.pipeline import Pipeline
from sbirlib.recipe import Recipe
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject, seeded

FEW = {"width": 16, "channels": 4, "blocks": 1, "hidden": 32, "latent": 8, "draws": 3, "grid": 2, "rows": 40, "clusters": 40}
NAMES = sorted(entry.name for entry in registry.scan().entries if entry.kind == "recipe")


class TwoLayers(nn.Module):
    """A backbone of two stages, as timm describes them: images [B, 3, H, W] to a map [B, 8, H/8, W/8], and its mean [B, 8]."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = [{"module": "first", "num_chs": 4}, {"module": "second", "num_chs": 8}]
        self.first = nn.Sequential(nn.Conv2d(3, 4, 5, 4, 2), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.second(self.first(images))
        return features

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_features(images).mean((2, 3))


def tiny(name: str, backbone: type[nn.Module] | None = None) -> Pipeline:
    """The recipe's pipeline on 32 pixels, of the same components around timm's smallest network, or around these backbones."""
    encoder = Recipe.of(recipe_file.read(name)).tables()["encoder"]
    with seeded(0):
        pipeline = small(Subject("recipe", name, _few(encoder, "encoder", backbone)))
        awaken(pipeline.encoder)
    return pipeline


def _few(table: dict[str, Any], place: str, backbone: type[nn.Module] | None) -> dict[str, Any]:
    """Options that make an encoder small, and those inside it, by their dotted keys."""
    few: dict[str, Any] = {f"{place}.{option}": value for option, value in FEW.items() if option in table}
    if "landmarks" in table:  # on a map of 4 x 4 cells
        few |= {f"{place}.landmarks": min(4, table["landmarks"])} | ({f"{place}.encoder.output_stride": 8} if backbone is None else {})
    if "backbone" in table and backbone is not None:
        few |= {f"{place}.backbone": backbone(), f"{place}.pooling": None}
    for option, value in table.items():
        if isinstance(value, dict) and "name" in value:
            few |= _few(value, f"{place}.{option}", backbone)
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
