"""What is trained together: an encoder, the losses around it, and the miner between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from torch import Tensor, nn

from sbirlib.interfaces import AdversarialLoss, Encoder, Loss, Miner, Part


class Model(nn.Module):
    """Gives every parameter its name: `encoder.*`, `losses.<name>.*`, `miner.*`."""

    def __init__(self, encoder: Encoder, losses: Mapping[str, Loss] | None = None, miner: Miner | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.miner = miner
        self.losses = nn.ModuleDict(losses or {})

    def loss(self, name: str) -> Loss:
        return cast(Loss, self.losses[name])

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Every part in it, however deep, with its name."""
        return ((name, module) for name, module in self.named_modules() if isinstance(module, Part))

    def load_weights(self) -> None:
        for _, part in self.parts():
            part.load_weights()

    def discriminators(self) -> dict[str, AdversarialLoss]:
        return {name: loss for name, loss in self.losses.items() if isinstance(loss, AdversarialLoss)}

    def tensors(self) -> dict[str, Tensor]:
        """A copy of the whole state, on the CPU and contiguous, ready to be written."""
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in self.state_dict().items()}
