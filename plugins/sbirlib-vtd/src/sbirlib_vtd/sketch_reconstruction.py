"""Reconstruction error of sketches."""

from typing import Literal

from torch import Tensor

from sbirlib.plugin_api import Loss, Step, at_least_float32


class SketchReconstruction(Loss):
    """L_rec = |s - s'|^2 (Pang et al. 2019, section 3.1), the mean over images.

    Reads the target `drawn` and the `reconstruction` [B, 1, 64, 64] of the encoder `descriptor`.

    Args:
        reduction: sum over the 64 x 64 pixels, or their mean

    >>> step = step_of(part("encoder", "descriptor"))
    >>> SketchReconstruction()(step)
    tensor(...)
    """

    needs = frozenset({"drawn", "reconstruction"})

    def __init__(self, *, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, step: Step) -> Tensor:
        """Mean over images of the error of the `reconstruction` [B, 1, 64, 64]: a scalar []."""
        reconstruction, target = (at_least_float32(step.local.images[name]) for name in ("reconstruction", "drawn"))
        error = (reconstruction - target).square().flatten(1)
        return step.mean(error.sum(1) if self.reduction == "sum" else error.mean(1))
