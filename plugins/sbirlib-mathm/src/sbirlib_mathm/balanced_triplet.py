"""MATHM's triplet loss, whose kinds are weighted so that each contributes an equal share of the gradient."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from sbirlib.plugin_api import Loss, Step, mean, violations
from sbirlib_mathm.modality_hard import KINDS


def hinge(violation: Tensor) -> Tensor:
    """L_i = 1/N sum [d_ap - d_an + alpha]_+ of violations [T] (Huang et al. 2022, eq. 9)."""
    return mean(F.relu(violation))


def active(violation: Tensor) -> Tensor:
    """g_i = 1/N sum sgn [d_ap - d_an + alpha]_+, the fraction of active triplets among violations [T] (eq. 10)."""
    return mean((violation > 0).to(violation.dtype))


def soft_hinge(violation: Tensor, beta: float) -> Tensor:
    """L_i = 1/N sum log(1 + exp(beta v)) / beta of violations v [T]: the released code's smooth eq. 9."""
    return mean(F.softplus(violation, beta=beta))


def soft_active(violation: Tensor, beta: float) -> Tensor:
    """g_i = 1/N sum sigmoid(beta v) of violations v [T], the slope of `soft_hinge`: the released code's smooth eq. 10."""
    return mean(torch.sigmoid(beta * violation))


def weights(active: Tensor, floor: float) -> Tensor:
    """w_i = 1/n sum_k g_k / max(g_i, floor) of g [n] (eq. 13, which solves eq. 12); 1 where every g is 0.

    >>> weights(torch.tensor([0.2, 0.4]), floor=0.1)
    tensor([1.5000, 0.7500])
    """
    return torch.where(active.sum() > 0, active.mean() / active.clamp(min=floor), torch.ones_like(active))


class BalancedTriplet(Loss):
    """w_i L_i for each kind of triplets, by name, whose sum is the loss (Huang et al. 2022, eq. 9 to 13).

        L_i = 1/N sum [d_ap - d_an + margin]_+      g_i = 1/N sum sgn [d_ap - d_an + margin]_+
        w_i = 1/n sum_k g_k / max(g_i, floor), without gradient

    so that w_i g_i are equal and sum to the sum of g. A kind without triplets gives zero and is not counted in n. Logs g, w and the
    unweighted L of each kind. Needs a miner, such as `modality_hard`; d are the encoder's distances [N, N].

    Scale "sum" is eq. 11 as printed. Scale "mean" gives w_i L_i / 3 whichever kinds are mined, by which one kind alone has a third of its
    gradient: without weighting, the released code takes the mean of three stacked terms, of which it detaches two where it mines one kind.
    With weighting it takes a sum.

    Args:
        margin: distance by which a negative must be farther than the positive
        floor: smallest g in the denominator of w, which stays finite where a hinge is satisfied
        weighting: weight the kinds; otherwise w = 1
        scale: "sum" over the kinds, or "mean", a third of it
        soft: the released code's softplus and sigmoid in place of the hinge and the sign
        beta: sharpness of the softplus and the sigmoid

    >>> BalancedTriplet(margin=0.2)(step)
    {'cross': tensor(0...), 'within': tensor(0...), 'hybrid': tensor(0...)}
    """

    needs = frozenset({"triplets"})

    def __init__(
        self,
        *,
        margin: Annotated[float, Ge(0)] = 0.2,
        floor: Annotated[float, Interval(gt=0, le=1)] = 0.1,
        weighting: bool = True,
        scale: Literal["sum", "mean"] = "sum",
        soft: bool = False,
        beta: Annotated[float, Gt(0)] = 20.0,
    ) -> None:
        super().__init__()
        self.margin, self.floor, self.weighting, self.soft, self.beta = margin, floor, weighting, soft, beta
        self.divisor = len(KINDS) if scale == "mean" else 1

    def forward(self, step: Step) -> dict[str, Tensor]:
        """w_i L_i of each kind of triplets, or a third of it, a scalar [], from distances [N, N]."""
        by_kind = violations(step, margin=self.margin)
        loss = {kind: soft_hinge(v, self.beta) if self.soft else hinge(v) for kind, v in by_kind.items()}
        g = {kind: soft_active(v.detach(), self.beta) if self.soft else active(v.detach()) for kind, v in by_kind.items()}
        w = {kind: torch.ones_like(value) for kind, value in g.items()}
        counted = [kind for kind, v in by_kind.items() if len(v)]
        if self.weighting and counted:
            w.update(zip(counted, weights(torch.stack([g[kind] for kind in counted]), self.floor), strict=True))
        for name, values in {"g": g, "w": w, "L": loss}.items():
            for kind, value in values.items():
                step.log(f"{name}_{kind}", value)
        terms = {kind: w[kind] * value for kind, value in loss.items()} if self.weighting else loss
        return terms if self.divisor == 1 else {kind: value / self.divisor for kind, value in terms.items()}
