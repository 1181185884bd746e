"""Feature regression: from a sketch to its photo's features, and back to the sketch's."""

from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import Loss, Step, at_least_float32


class FeatureRegression(Loss):
    """photo = |x' - x_p|^2 and sketch = |P(x') - x_s|^2, means over sketches whose photo is in the batch (Yelamarthi et al. 2018).

    Reads `regressed`, its `condition` x_s, its `target` x_p and `paired` of the encoder `conditional_vae`; the linear layer P belongs to this
    loss.

    Args:
        dim: width of the features, which training fills in

    >>> step = step_of(part("encoder", "conditional_vae", encoder=encoder))
    >>> FeatureRegression(dim=encoder.dim)(step)
    {'photo': tensor(...), 'sketch': tensor(...)}
    """

    needs = frozenset({"regressed", "target", "paired", "condition"})

    def __init__(self, *, dim: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.back = nn.Linear(dim, dim)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Both errors of the `regressed` [N, V], means over this process's pairs: each a scalar []."""
        rows = step.local.rows
        regressed, condition, target = (at_least_float32(rows[name]) for name in ("regressed", "condition", "target"))
        back = F.linear(regressed, self.back.weight.to(regressed.dtype), self.back.bias.to(regressed.dtype))
        errors = {"photo": regressed - target, "sketch": back - condition}
        return {name: step.mean(error.square().sum(1), keep=rows["paired"].bool()) for name, error in errors.items()}
