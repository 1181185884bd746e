"""Low-rank adaptation of linear layers and convolutions."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor, nn

from sbirlib.encoders.adapters.adapter import Adapter, targeted
from sbirlib.interfaces import Encoder


class Lora(Adapter):
    """An encoder whose linear layers and convolutions have an additive update of low rank (Hu et al. 2022, eq. 3).

        h = W x + alpha / rank B A x,    A [rank, in] random, B [out, rank] zero at first

    W stays where a rule freezes the encoder. At first this is the encoder, bit for bit. Of a convolution, A has the kernel, the stride and the
    padding, and B is 1 x 1; convolutions in groups are left out. Raises InputError for a target that is no such layer.

    Args:
        encoder: encoder whose backbone is adapted
        rank: rank of the update
        alpha: scale of the update, alpha / rank; 0 is the rank, a scale of 1
        targets: patterns of layers, by their paths in the backbone, such as "*.qkv"

    >>> lora = Lora(encoder=encoder, rank=4, targets=["layer4*"])
    >>> len(lora.adapters)
    3
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        rank: Annotated[int, Ge(1)] = 8,
        alpha: Annotated[float, Ge(0)] = 0.0,
        targets: Annotated[Sequence[str], MinLen(1)] = ("*",),
    ) -> None:
        super().__init__(encoder)
        layers = targeted(encoder, targets, adaptable, "linear layer or convolution without groups")
        self.sites = tuple(layers)
        self.adapters = nn.ModuleList(LowRank(layer, rank, (alpha or rank) / rank) for layer in layers.values())

    def merged(self) -> Encoder:
        """A copy of the encoder with the updates added to its weights, which needs no adapter: equal, up to rounding."""
        encoder = copy.deepcopy(self.encoder)
        with torch.no_grad():
            for site, adapter in zip(self.sites, self.adapters, strict=True):
                assert isinstance(adapter, LowRank)
                weight = encoder.get_submodule(site).get_parameter("weight")
                weight.add_(adapter.update().to(weight.dtype))
        return encoder


class LowRank(nn.Module):
    """scale B A x for the input x of a linear layer or a convolution, added to its output."""

    def __init__(self, layer: nn.Module, rank: Annotated[int, Ge(1)], scale: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.scale = scale
        self.down: nn.Linear | nn.Conv2d
        self.up: nn.Linear | nn.Conv2d
        if isinstance(layer, nn.Conv2d):
            self.down = copy.deepcopy(layer)  # as it pads, which differs from nn.Conv2d in some of timm's
            self.down.out_channels, self.down.bias = rank, None
            self.down.weight = nn.Parameter(torch.empty(rank, *layer.weight.shape[1:]))
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            assert isinstance(layer, nn.Linear)
            self.down, self.up = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, output: Tensor) -> Tensor:
        """The output [..., out] or [B, out, H, W] with the update of an input [..., in] or [B, in, H, W]."""
        result: Tensor = output + self.scale * self.up(self.down(x))
        return result

    def update(self) -> Tensor:
        """The update of the layer's weight, of its shape [out, in, ...]."""
        up, down = self.up.weight.flatten(1), self.down.weight
        return self.scale * (up @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def adaptable(module: nn.Module) -> bool:
    """Whether a module is a linear layer, or a convolution without groups."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
