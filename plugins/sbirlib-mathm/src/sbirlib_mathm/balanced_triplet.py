"""MATHM's triplet loss: the kinds weighted so that each contributes an equal share of the gradient."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.interfaces import Loss, Step
from sbirlib.losses.triplet import mean, violations


def hinge(violation: Tensor) -> Tensor:
    """L_i = 1/N sum [d_ap - d_an + alpha]_+ of violations [T] (Huang et al. 2022, eq. 9)."""
    return mean(F.relu(violation))


def active(violation: Tensor) -> Tensor:
    """g_i = 1/N sum sgn [d_ap - d_an + alpha]_+, the fraction of active triplets (eq. 10)."""
    return mean((violation > 0).to(violation.dtype))


def soft_hinge(violation: Tensor, beta: float) -> Tensor:
    """L_i = 1/N sum log(1 + exp(beta v)) / beta: the released code's smooth eq. 9."""
    return mean(F.softplus(violation, beta=beta))


def soft_active(violation: Tensor, beta: float) -> Tensor:
    """g_i = 1/N sum sigmoid(beta v), the slope of `soft_hinge`: the released code's smooth eq. 10."""
    return mean(torch.sigmoid(beta * violation))


def weights(active: Tensor, floor: float) -> Tensor:
    """w_i = 1/n sum_k g_k / max(g_i, floor) of g [n] (eq. 13, which solves eq. 12); 1 where every g is 0.

    >>> weights(torch.tensor([0.2, 0.4]), floor=0.1)
    tensor([1.5000, 0.7500])
    """
    return torch.where(active.sum() > 0, active.mean() / active.clamp(min=floor), torch.ones_like(active))


class BalancedTriplet(Loss):
    """w_i L_i for each kind of triplets, by name; their sum is the loss (Huang et al. 2022, eq. 9 to 13).

        L_i = 1/N sum [d_ap - d_an + margin]_+      g_i = 1/N sum sgn [d_ap - d_an + margin]_+
        w_i = 1/n sum_k g_k / max(g_i, floor), without gradient

    so that w_i g_i are equal and sum to the sum of g. The floor keeps w finite where a hinge is satisfied; a kind without
    triplets gives zero and is not counted in n. `soft` takes the released code's softplus and sigmoid, of sharpness `beta`,
    for the hinge and the sign. `weighting=False` leaves w = 1. Logs g, w and the unweighted L of each kind.
    Needs a miner, such as `modality_hard`; d are the encoder's distances [N, N].

    >>> loss = BalancedTriplet(margin=0.2)
    >>> loss(step)  # doctest: +SKIP
    {'cross': tensor(0.6020), 'within': tensor(0.6603), 'hybrid': tensor(0.6320)}
    """

    needs = frozenset({"triplets"})

    def __init__(self, *, margin: float = 0.2, floor: float = 0.1, weighting: bool = True, soft: bool = False, beta: float = 20.0) -> None:
        super().__init__()
        self.margin, self.floor, self.weighting, self.soft, self.beta = margin, floor, weighting, soft, beta

    def forward(self, step: Step) -> dict[str, Tensor]:
        found = violations(step, margin=self.margin)
        loss = {kind: soft_hinge(v, self.beta) if self.soft else hinge(v) for kind, v in found.items()}
        g = {kind: soft_active(v.detach(), self.beta) if self.soft else active(v.detach()) for kind, v in found.items()}
        w = {kind: torch.ones_like(value) for kind, value in g.items()}
        counted = [kind for kind, v in found.items() if len(v)]
        if self.weighting and counted:
            w.update(zip(counted, weights(torch.stack([g[kind] for kind in counted]), self.floor), strict=True))
        for name, values in {"g": g, "w": w, "L": loss}.items():
            for kind, value in values.items():
                step.log(f"{name}_{kind}", value)
        return {kind: w[kind] * loss[kind] for kind in loss}
