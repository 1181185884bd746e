"""Standard normal prior of gates and latent codes: the KL divergence."""

from typing import Literal

import torch
from torch import Tensor

from sbirlib.plugin_api import SKETCH, Loss, Step, at_least_float32


class GatePrior(Loss):
    """L_con = KL(N(mu, sigma^2) || N(0, I)), the mean over sketches (Pang et al. 2019, section 3.2), and over dimensions or their sum.

    Reads `gate_mean` and `gate_log_variance` [N, V] of the encoder `adaptive`, or with `of` "latent" those of `variational` and
    `conditional_vae`, of the images that have one. Logs `gate_rms` (`latent_rms`), the root mean square of mu + sigma N(0, I), and
    `gate_mean_rms`, that of mu alone, the part that depends on the image.

    The mean is the default: of the sum over 1,280 dimensions the paper's weight, 0.004, outweighs the triplet loss, and mu vanishes. The evidence
    bound of an autoencoder has the sum.

    Args:
        of: the variable under the prior: "gate" or "latent"
        reduction: the mean over dimensions, or their sum

    >>> step = step_of(part("encoder", "adaptive", encoder=encoder, descriptor="descriptor"))
    >>> GatePrior()(step)
    tensor(...)
    """

    def __init__(self, *, of: Literal["gate", "latent"] = "gate", reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.of, self.reduction = of, reduction
        self.needs = frozenset({f"{of}_mean", f"{of}_log_variance"})

    def forward(self, step: Step) -> Tensor:
        """Divergence of mean and log sigma^2 [N, V], a mean over sketches: a scalar []."""
        rows = step.features.rows
        mean, log_variance = (at_least_float32(rows[f"{self.of}_{name}"]) for name in ("mean", "log_variance"))
        keep = step.features.modality == SKETCH if self.of == "gate" else rows.get("paired", torch.ones_like(mean[:, 0], dtype=torch.bool))
        mean, log_variance = mean[keep], log_variance[keep]
        if len(mean):
            power = mean.detach().square().mean()
            step.log(f"{self.of}_rms", (power + log_variance.detach().exp().mean()).sqrt())
            step.log(f"{self.of}_mean_rms", power.sqrt())
        each = divergence(mean, log_variance)
        each = each.mean(1) if self.reduction == "mean" else each.sum(1)
        return each.sum() / max(len(each), 1) + 0 * mean.sum() + 0 * log_variance.sum()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mu, sigma^2) from N(0, 1) in each dimension, for mean and log sigma^2 [N, V]: [N, V]."""
    return (log_variance.exp() + mean.square() - 1 - log_variance) / 2
