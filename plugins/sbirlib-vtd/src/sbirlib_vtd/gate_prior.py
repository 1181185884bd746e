"""What is drawn, a gate or a latent code, stays near what noise alone would be."""

from typing import Literal

import torch
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import SKETCH, Loss, Step

OF = ("gate", "latent")


class GatePrior(Loss):
    """L_con = KL(N(mu, sigma^2) || N(0, I)), the mean over sketches (Pang et al. 2019, section 3.2).

    Reads `gate_mean` and `gate_log_variance` [N, V] of the encoder `adaptive`, or with `of` "latent" those of `variational`, of every image.
    Logs `gate_rms` (`latent_rms`), the root of the mean square of what was drawn: how far a gate moves a feature.

    >>> GatePrior()(step)    # doctest: +SKIP
    tensor(41.2260)
    """

    def __init__(self, *, of: Literal["gate", "latent"] = "gate") -> None:
        super().__init__()
        if of not in OF:
            raise InputError(f"gate_prior: unknown of {of!r}{nearest(of, OF)}")
        self.of = of
        self.needs = frozenset({of, f"{of}_mean", f"{of}_log_variance"})

    def forward(self, step: Step) -> Tensor:
        rows = step.features.rows
        mean, log_variance = (at_least_float32(rows[f"{self.of}_{name}"]) for name in ("mean", "log_variance"))
        kept = step.features.modality == SKETCH if self.of == "gate" else torch.ones(len(mean), dtype=torch.bool, device=mean.device)
        if bool(kept.any()):
            step.log(f"{self.of}_rms", rows[self.of][kept].square().mean().sqrt())
        each = divergence(mean[kept], log_variance[kept])
        return each.sum() / max(len(each), 1) + 0 * mean.sum() + 0 * log_variance.sum()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mu, sigma^2) from N(0, I) for mean and log sigma^2 [n, V]: [n]."""
    return (log_variance.exp() + mean.square() - 1 - log_variance).sum(1) / 2
