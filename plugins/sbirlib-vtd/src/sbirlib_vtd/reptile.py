"""An optimizer that trains on one subtask after another, and moves only part of the way to where each of them ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sbirlib.errors import InputError


def moved(start: Tensor, end: Tensor, share: float) -> Tensor:
    """start + share (end - start): Reptile's step from where a subtask began towards where it ended (Nichol et al. 2018, algorithm 1)."""
    return torch.lerp(start, end, share)


class Reptile(torch.optim.Adam):
    """Adam within a subtask of `every` steps; after its last, each parameter is put at `moved(start, end, share)`.

    Where a subtask began is part of the state, so training resumes exactly. Adam's moments go on from subtask to subtask.
    """

    def __init__(self, parameters: Iterable[Any], *, every: int, share: float, **options: Any) -> None:
        super().__init__(parameters, fused=True, **options)
        self.every, self.share = every, share
        for group in self.param_groups:
            group["steps"] = 0  # a number of its own, for Adam's is on the device

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        trained = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        new = [p for _, own in trained for p in own if "start" not in self.state[p]]
        before = {p: p.detach().clone() for p in new}  # kept here meanwhile: Adam makes its own state only where there is none
        loss: float | None = super().step(closure)
        for p, start in before.items():
            self.state[p]["start"] = start
        for group, own in trained:
            group["steps"] += 1
            if group["steps"] % self.every == 0:
                for p in own:
                    p.copy_(moved(self.state[p]["start"], p, self.share))
                    self.state[p]["start"] = p.detach().clone()
        return loss


def reptile(
    parameters: Iterable[Any],
    *,
    lr: float = 1e-4,
    weight_decay: float = 0.0,
    betas: Sequence[float] = (0.9, 0.999),
    every: int = 500,
    share: float = 0.5,
) -> Reptile:
    """Reptile around Adam (Nichol et al. 2018). `every` is the length of a subtask, which the sampler `subtasks` calls `length`.

    Raises InputError for a subtask of no steps, or a share outside (0, 1].
    """
    if every < 1:
        raise InputError(f"reptile: every is the steps of a subtask, at least 1, got {every}")
    if not 0 < share <= 1:
        raise InputError(f"reptile: share is how far to move, in (0, 1], got {share}")
    return Reptile(parameters, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]), every=every, share=share)
