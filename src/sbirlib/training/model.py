"""Model: an encoder, its losses and its miner as one module, with a name for every parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from torch import Tensor, nn

from sbirlib.interfaces import AdversarialLoss, Encoder, Loss, Miner, ModuleComponent


class Model(nn.Module):
    """Encoder, losses and miner, whose parameters are named `encoder.*`, `losses.<name>.*`, `miner.*`."""

    def __init__(self, encoder: Encoder, losses: Mapping[str, Loss] | None = None, miner: Miner | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.miner = miner
        self.losses = nn.ModuleDict(losses or {})

    def loss(self, name: str) -> Loss:
        """The loss of that name in the recipe."""
        return cast(Loss, self.losses[name])

    def components(self) -> Iterator[tuple[str, ModuleComponent]]:
        """Every component, however deep, with its module path."""
        return ((name, module) for name, module in self.named_modules() if isinstance(module, ModuleComponent))

    def load_weights(self) -> None:
        """Load the pretrained weights of every component that has some."""
        for _, component in self.components():
            component.load_weights()

    def discriminators(self) -> dict[str, AdversarialLoss]:
        """The losses with a discriminator, by name."""
        return {name: loss for name, loss in self.losses.items() if isinstance(loss, AdversarialLoss)}

    def tensors(self) -> dict[str, Tensor]:
        """A copy of the whole state by name, tensors of any shape, on the CPU and contiguous."""
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in self.state_dict().items()}
