"""Reptile: first-order meta-learning over subtasks, around Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from sbirlib.plugin_api import Betas


def interpolate(start: Tensor, end: Tensor, share: float) -> Tensor:
    """start + share (end - start), for parameters [...] before and after a subtask: Reptile's step (Nichol et al. 2018, algorithm 1)."""
    return torch.lerp(start, end, share)


class Reptile(torch.optim.Adam):
    """Adam within a subtask of `every` steps; after its last, each parameter is set to `interpolate(start, end, share)`.

    The start of a subtask is part of the state, so training resumes exactly. Adam's moments persist over subtasks.
    """

    def __init__(self, parameters: Iterable[Any], *, every: int, share: float, **options: Any) -> None:
        super().__init__(parameters, fused=True, **options)
        self.every, self.share = every, share
        for group in self.param_groups:
            group["steps"] = 0  # Adam's own counter is on the device

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        trained = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        new = [p for _, own in trained for p in own if "start" not in self.state[p]]
        before = {p: p.detach().clone() for p in new}  # not in the state yet: Adam initialises only an empty state
        loss: float | None = super().step(closure)
        for p, start in before.items():
            self.state[p]["start"] = start
        for group, own in trained:
            group["steps"] += 1
            if group["steps"] % self.every == 0:
                for p in own:
                    p.copy_(interpolate(self.state[p]["start"], p, self.share))
                    self.state[p]["start"] = p.detach().clone()
        return loss


def reptile(
    parameters: Iterable[Any],
    *,
    lr: Annotated[float, Ge(0)] = 1e-4,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    betas: Betas = (0.9, 0.999),
    every: Annotated[int, Ge(1)] = 500,
    share: Annotated[float, Interval(gt=0, le=1)] = 0.5,
) -> Reptile:
    """Reptile around Adam (Nichol et al. 2018).

    Args:
        lr: learning rate within a subtask
        weight_decay: L2 penalty, whose gradient is added
        betas: decay rates of Adam's two moments
        every: steps of a subtask, the `length` of the sampler `subtasks`
        share: share of the way from a subtask's start to its end that is kept
    """
    return Reptile(parameters, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]), every=every, share=share)
