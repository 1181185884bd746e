"""Diversity loss, towards orthogonal filters and responses."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.plugin_api import InputError, Loss, Step, at_least_float32, check_labels


class Diversity(Loss):
    """The three terms of L_div (Zhang et al. 2019, eq. 6 to 8), weighed apart in a recipe: one weight beta for all as printed.

        filters      L_f = sum_{i != j} |sum_p <F_i^p, F_j^p> / (|F_i^p| |F_j^p|)|          F_i^p [C] filter i at its position p
        responses    L_r = sum_{i != j} |<psi_i, psi_j> / (|psi_i| |psi_j|)|                of each image, the mean over images
        classes      L_c = cross entropy of the responses' means over the map, one filter a category

    Reads the `filters` [K, C, h, w] and the `responses` [B, K, H, W] of the encoder `landmark`. Raises InputError for more categories than
    filters.

    Args:
        reduction: sum over pairs i != j as printed, which grows as K^2, or their mean

    >>> step = step_of(part("encoder", "landmark", encoder=encoder, landmarks=4, filters=10))
    >>> Diversity(reduction="mean")(step)
    {'filters': tensor(0...), 'responses': tensor(0...), 'classes': tensor(...)}
    """

    needs = frozenset({"filters", "responses"})

    def __init__(self, *, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The three terms, each a scalar [], of filters [K, C, h, w] and responses [B, K, H, W]."""
        responses = at_least_float32(step.local.images["responses"])
        filters = step.local.extra["filters"].to(responses.dtype)
        category = step.batch.category
        if len(category) and int(category.max()) >= len(filters):
            raise InputError(
                f"the encoder landmark has {len(filters)} filters, one for each category, and there is a category {int(category.max())}: "
                "set its option filters to the number of categories"
            )
        check_labels(category, len(filters))
        with torch.autocast(responses.device.type, enabled=False):
            logits = responses.mean((2, 3))
            pairs = max(1, len(filters) * (len(filters) - 1)) if self.reduction == "mean" else 1
            some = float(len(responses) > 0)  # no gradient without an image
            return {
                "filters": some * of_filters(filters) / pairs + 0 * responses.sum(),
                "responses": step.mean(of_responses(responses)) / pairs,
                "classes": step.mean(F.cross_entropy(logits, category, reduction="none")),
            }


def of_filters(filters: Tensor) -> Tensor:
    """L_f of filters [K, C, h, w]: each is normalised at each of its positions, so one Gram matrix has all sums over positions (eq. 6)."""
    unit = F.normalize(filters, dim=1).flatten(1)
    return _off_diagonal(unit @ unit.T)


def of_responses(responses: Tensor) -> Tensor:
    """L_r of each image [B], from its responses [B, K, H, W] (eq. 7)."""
    unit = F.normalize(responses.flatten(2), dim=2)
    return _off_diagonal(unit @ unit.mT)


def _off_diagonal(gram: Tensor) -> Tensor:
    """Sum of the moduli off the diagonal of matrices [..., K, K], [...]."""
    own = torch.eye(gram.shape[-1], dtype=torch.bool, device=gram.device)
    return gram.masked_fill(own, 0.0).abs().sum((-2, -1))
