"""The descriptor must suffice to draw the sketch again."""

from typing import Literal

from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Loss, Step

REDUCTIONS = ("sum", "mean")


class SketchReconstruction(Loss):
    """L_rec = |s - s'|^2 (Pang et al. 2019, section 3.1), summed over the 64 x 64 pixels, or their mean by `reduction`; mean over images.

    Reads `drawn` and `reconstruction` [B, 1, 64, 64] of the encoder `descriptor`.

    >>> SketchReconstruction()(step)    # doctest: +SKIP
    tensor(712.4021)
    """

    needs = frozenset({"drawn", "reconstruction"})

    def __init__(self, *, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise InputError(f"sketch_reconstruction: unknown reduction {reduction!r}{nearest(reduction, REDUCTIONS)}")
        self.reduction = reduction

    def forward(self, step: Step) -> Tensor:
        drawn, wanted = (at_least_float32(step.local.images[name]) for name in ("reconstruction", "drawn"))
        error = (drawn - wanted).square().flatten(1)
        return step.mean(error.sum(1) if self.reduction == "sum" else error.mean(1))
