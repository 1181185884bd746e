"""Vector quantisation with K codes; dead codes are re-initialised each epoch."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from sbirlib.plugin_api import Encoder, InputError, Step
from sbirlib_vtd.dictionary import reinitialise_dead


class Quantiser(Encoder):
    """Base of encoders that assign each image to one of K codes, that of the largest `assignment` [B, K].

    The assignments are counted, and after each epoch dead codes are re-initialised near the most used one (Pang et al. 2019, section 3.1).
    Subclasses define `table`, the codes [K, M].

    Args:
        count: number K of codes
        revival: relative noise of a re-initialised code
    """

    counts: Tensor
    epochs: Tensor

    def __init__(self, *, count: Annotated[int, Ge(2)], revival: Annotated[float, Ge(0)]) -> None:
        super().__init__()
        self.revival = revival
        self.register_buffer("counts", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def table(self) -> Tensor:
        """Codes [K, M], to be changed in place."""
        raise NotImplementedError

    def after_step(self, step: Step) -> None:
        """Count the assignments of all processes' images. Raises InputError inside an encoder whose features do not have them."""
        if "assignment" not in step.features.rows:
            raise InputError(
                f"{type(self).__name__} trains inside an encoder whose features have no 'assignment', so its dead codes cannot be found: freeze it "
                'by a rule ({of = "encoder.descriptor", frozen = true} in adaptive), or train it in a phase of its own (encoder = "descriptor")'
            )
        codes = step.features.rows["assignment"].argmax(1)
        self.counts += torch.bincount(codes, minlength=len(self.counts))

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Re-initialise the codes that no image was assigned to in this epoch."""
        table = self.table()
        table.copy_(reinitialise_dead(table, self.counts, noise=self.revival, seed=int(self.epochs)))
        self.counts.zero_()
        self.epochs += 1
