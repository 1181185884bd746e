"""The gates stay near what noise alone would give."""

from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.interfaces import SKETCH, Loss, Step


class GatePrior(Loss):
    """L_con = KL(N(mu, sigma^2) || N(0, I)), the mean over sketches (Pang et al. 2019, section 3.2).

    Reads `gate_mean` and `gate_log_variance` [N, V] of the encoder `adaptive`, and logs `gate_rms`, how far the gates move a feature.

    >>> GatePrior()(step)    # doctest: +SKIP
    tensor(41.2260)
    """

    needs = frozenset({"gate", "gate_mean", "gate_log_variance"})

    def forward(self, step: Step) -> Tensor:
        sketch = step.features.modality == SKETCH
        mean, log_variance = (at_least_float32(step.features.rows[name]) for name in ("gate_mean", "gate_log_variance"))
        if bool(sketch.any()):
            step.log("gate_rms", step.features.rows["gate"][sketch].square().mean().sqrt())
        each = divergence(mean[sketch], log_variance[sketch])
        return each.sum() / max(len(each), 1) + 0 * mean.sum() + 0 * log_variance.sum()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mu, sigma^2) from N(0, I) for mean and log sigma^2 [n, V]: [n]."""
    return (log_variance.exp() + mean.square() - 1 - log_variance).sum(1) / 2
