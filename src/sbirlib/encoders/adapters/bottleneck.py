"""Bottleneck adapters after modules of a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.encoders.adapters.adapter import Adapter, backbones_of, targeted
from sbirlib.encoders.backbone import PROBE, Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder


class Bottleneck(Adapter):
    """An encoder with a residual bottleneck after modules of its backbone (Houlsby et al. 2019, figure 2).

        h + U relu(D h),    D [width, C] random, U [C, width] zero at first

    At first this is the encoder, bit for bit. Outputs h are maps [B, C, H, W] or tokens [B, L, C], whose C a small batch shows. Raises InputError
    for a target whose output is neither.

    Args:
        encoder: encoder whose backbone is adapted
        width: hidden units of a bottleneck
        targets: patterns of modules, by their paths in the backbone, such as "blocks.*.mlp"; the stages or blocks that timm names where none

    >>> Bottleneck(encoder=encoder, width=16, targets=["layer3", "layer4"]).sites
    ('backbone.layer3', 'backbone.layer4')
    """

    def __init__(self, *, encoder: Encoder, width: Annotated[int, Ge(1)] = 32, targets: Sequence[str] = ()) -> None:
        super().__init__(encoder)
        self.sites = tuple(targeted(encoder, targets, lambda module: True, "module") if targets else stages(encoder))
        outputs = outputs_of(encoder, self.sites)
        self.adapters = nn.ModuleList(Residual(outputs.get(site), width, site) for site in self.sites)


class Residual(nn.Module):
    """h + U relu(D h) of a module's output h."""

    def __init__(self, output: Any, width: int, site: str) -> None:
        super().__init__()
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"targets: {site} gives no map [B, C, H, W] and no tokens [B, L, C], but {shape}: choose other modules")
        self.map = output.ndim == 4
        channels = output.shape[1 if self.map else 2]
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, _: Tensor, output: Tensor) -> Tensor:
        """The changed output, a map [B, C, H, W] or tokens [B, L, C]."""
        h = output.movedim(1, -1) if self.map else output
        change: Tensor = self.up(torch.relu(self.down(h)))
        return output + (change.movedim(-1, 1) if self.map else change)


def stages(encoder: Encoder) -> list[str]:
    """Paths in the encoder of the stages or blocks of its backbones, as timm's `feature_info` names them."""
    sites = []
    for root, network in backbones_of(encoder).items():
        info: Any = getattr(network, "feature_info", None)
        if not isinstance(info, list) or not all(isinstance(stage, Mapping) and "module" in stage for stage in info):
            raise InputError("targets: timm names no stages of this backbone: name the modules")
        sites += [f"{root}.{stage['module']}" for stage in info]
    return sites


@torch.no_grad()
def outputs_of(encoder: Encoder, sites: Sequence[str]) -> dict[str, Any]:
    """Outputs of modules of the encoder's backbones, by their paths in it, for black images."""
    outputs: dict[str, Any] = {}
    fronts = {path: module for path, module in encoder.named_modules() if isinstance(module, Backbone)}
    handles = [
        encoder.get_submodule(site).register_forward_hook(lambda _, __, output, site=site: outputs.update({site: output})) for site in sites
    ]
    training = encoder.training
    encoder.eval()
    try:
        for front in fronts.values():
            front.backbone(torch.zeros(*PROBE[:2], *(front.size or PROBE[2:])))
    finally:
        encoder.train(training)
        for handle in handles:
            handle.remove()
    return outputs
