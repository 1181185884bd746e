"""Assignment losses: each sketch to one code of the dictionary, all codes in use."""

import math
from typing import Literal

import torch
from torch import Tensor

from sbirlib.plugin_api import Loss, Step, at_least_float32


class Assignment(Loss):
    """Each sketch is assigned to one code, and all codes are used (Pang et al. 2019, eq. 4 to 7). p = softmax of the `assignment` [N, K].

        "soft"    row = H_row, the mean entropy of p_i; column = -H_col, minus the entropy of the mean of p
        "hard"    uniform = KL(mean of p || uniform), as the text says; `per_sample`: the mean of KL(p_i || uniform), eq. 4 as printed

    The mean is over the rows of all processes. Terms have separate weights in a recipe. Logs `rows_used`, the share of codes in use in the
    batch, and `usage_entropy`, the entropy of their usage over log K.

    Args:
        kind: the entropies of a soft assignment, or the divergence of a hard one
        per_sample: with "hard", the divergence of each sketch's p, as printed

    >>> step = step_of(part("encoder", "descriptor", rows=300))
    >>> Assignment(kind="soft")(step)
    {'row': tensor(...), 'column': tensor(-...)}
    """

    needs = frozenset({"assignment"})

    def __init__(self, *, kind: Literal["soft", "hard"] = "soft", per_sample: bool = False) -> None:
        super().__init__()
        self.kind, self.per_sample = kind, per_sample

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Terms, each a scalar [], of the `assignment` [N, K]."""
        logits = at_least_float32(step.features.rows["assignment"])
        shares = logits.softmax(1)
        used = torch.bincount(logits.argmax(1), minlength=logits.shape[1]) / max(len(logits), 1)
        step.log("rows_used", (used > 0).float().mean())
        step.log("usage_entropy", torch.special.entr(used).sum() / math.log(logits.shape[1]))
        if self.kind == "soft":
            return {"row": row_entropy(shares), "column": -column_entropy(shares)}
        return {"uniform": divergence_of_each(shares) if self.per_sample else divergence(shares)}


def mean(shares: Tensor) -> Tensor:
    """p_c [K], the mean of shares [N, K] over the batch; zeros without rows."""
    return shares.sum(0) / max(len(shares), 1)


def entropy(shares: Tensor) -> Tensor:
    """-sum p log p over K of shares [K] or [N, K]; a share of zero contributes zero, with a finite gradient."""
    return -(shares * shares.clamp(min=torch.finfo(shares.dtype).tiny).log()).sum(-1)


def row_entropy(shares: Tensor) -> Tensor:
    """H_row of shares [N, K] (eq. 5): zero only where each sketch has one code."""
    return entropy(shares).sum() / max(len(shares), 1)


def column_entropy(shares: Tensor) -> Tensor:
    """H_col of shares [N, K] (eq. 6): log K, its maximum, where all codes are used equally."""
    return entropy(mean(shares))


def divergence(shares: Tensor) -> Tensor:
    """KL of the batch's mean of shares [N, K] from uniform (eq. 4, as its text says)."""
    return mean(shares).sum() * math.log(shares.shape[1]) - column_entropy(shares)


def divergence_of_each(shares: Tensor) -> Tensor:
    """Mean over rows of the KL of shares [N, K] from uniform (eq. 4 as printed)."""
    return (shares.sum(1) * math.log(shares.shape[1]) - entropy(shares)).sum() / max(len(shares), 1)
