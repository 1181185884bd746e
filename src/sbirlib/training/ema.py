"""Exponential moving average of a model's weights over a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sbirlib.training.model import Model

PREFIX = "ema."  # of the tensors' names in a checkpoint
EARLY = 9  # steps after which half of a decay of 0.9 is reached


@dataclass
class Ema:
    """Moving average of weights and buffers (Polyak and Juditsky 1992), of any shape by name; nothing at all without a decay.

        average <- average + (1 - decay_n) (weights - average),    decay_n = min(decay, n / (n + 9)),    n = 0, 1, ...

    so that the average begins as the weights after the first step, and those of the first steps are soon forgotten. What is no floating-point number,
    and buffers of losses and miners, such as rows of a memory, are those of the last step.
    """

    decay: float | None
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Take in the weights after a step, the first of which is 1."""
        if self.decay is None:
            return
        share = 1 - min(self.decay, (step - 1) / (step - 1 + EARLY))
        others = {name for name, _ in model.named_buffers() if not name.startswith("encoder.")}
        for name, value in model.state_dict().items():
            mean = self.tensors.get(name)
            if mean is None or not value.is_floating_point() or mean.shape != value.shape or name in others:
                self.tensors[name] = value.detach().clone()
            else:
                mean.lerp_(value, share)

    @contextmanager
    def worn(self, model: Model) -> Iterator[None]:
        """Block in which the model has the average's weights."""
        if not self.tensors:
            yield
            return
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def load(self, model: Model) -> None:
        """Set the model to the average."""
        if self.tensors:
            model.load_state_dict(self.tensors)

    def packed(self) -> dict[str, Tensor]:
        """The average for a checkpoint, on the CPU, of any shape by name."""
        return {PREFIX + name: value.to("cpu", copy=True).contiguous() for name, value in self.tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor], model: Model) -> None:
        """Go on from a checkpoint's tensors, of any shape by name, on the devices of the model's."""
        own = model.state_dict()
        theirs = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
        self.tensors = {name: value.to(own[name].device) for name, value in theirs.items() if name in own}
