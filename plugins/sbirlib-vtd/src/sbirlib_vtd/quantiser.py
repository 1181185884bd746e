"""What gives every image one of K rows, and brings rows back that nobody takes."""

from __future__ import annotations

import torch
from torch import Tensor

from sbirlib.interfaces import Encoder, Step
from sbirlib_vtd.dictionary import revived


class Quantiser(Encoder):
    """An encoder that gives each image one of K rows: that of the largest `assignment` [B, K]. It counts them, and after each epoch rows that
    no image took come back near the most taken, perturbed by `revival` (Pang et al. 2019, section 3.1). Subclasses tell their `table` [K, M]."""

    counts: Tensor
    epochs: Tensor

    def __init__(self, *, count: int, revival: float) -> None:
        super().__init__()
        self.revival = revival
        self.register_buffer("counts", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def table(self) -> Tensor:
        """The rows themselves, to be replaced in place."""
        raise NotImplementedError

    def after_step(self, step: Step) -> None:
        """Count the rows that the images of all processes took."""
        taken = step.features.rows["assignment"].argmax(1)
        self.counts += torch.bincount(taken, minlength=len(self.counts))

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Bring rows back that no image took since the last epoch."""
        table = self.table()
        table.copy_(revived(table, self.counts, noise=self.revival, seed=int(self.epochs)))
        self.counts.zero_()
        self.epochs += 1
