"""Diversity loss, towards orthogonal filters and responses."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from sbirlib.plugin_api import Classifier, Features, InputError, Step, at_least_float32, check_labels


class Diversity(Classifier):
    """The three terms of L_div (Zhang et al. 2019, eq. 6 to 8), and the class-aware branch as a classifier.

        filters      L_f: over pairs i != j, |sum_p <F_i^p, F_j^p> / (|F_i^p| |F_j^p|)|     F_i^p [C] filter i at its position p
        responses    L_r: over pairs i != j, |<psi_i, psi_j> / (|psi_i| |psi_j|)|           of each image, the mean over images
        classes      L_c = cross entropy of the responses' means over the map, one filter a category

    A recipe weights all terms by one beta (eq. 8), or each by its own. Reads the `filters` [K, C, h, w], the `responses` [B, K, H, W] and the
    `class_logits` [N, K] of the encoder `landmark`. Raises InputError for more categories than filters.

    Args:
        categories: number of categories, which training fills in
        reduction: mean over pairs i != j, or their sum as printed, which grows as K^2
        predicts: name categories at test beside the recipe's other classifiers, by the responses that L_c trains

    >>> step = step_of(part("encoder", "landmark", encoder=encoder, landmarks=4, filters=10))
    >>> Diversity(categories=10)(step)
    {'filters': tensor(0...), 'responses': tensor(0...), 'classes': tensor(...)}
    """

    needs = frozenset({"filters", "responses", "class_logits"})

    def __init__(self, *, categories: Annotated[int, Ge(1)], reduction: Literal["mean", "sum"] = "mean", predicts: bool = True) -> None:
        super().__init__()
        self.categories, self.reduction, self.predicts = categories, reduction, predicts

    def logits(self, features: Features) -> Tensor:
        """Logits of each row [N, C]: those of the first C filters."""
        logits = at_least_float32(features.rows["class_logits"])
        if logits.shape[1] < self.categories:
            raise InputError(
                f"the encoder landmark has {logits.shape[1]} filters, one for each category, and there are {self.categories} categories: "
                f"set its option filters to {self.categories}"
            )
        return logits[:, : self.categories]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The three terms, each a scalar [], of filters [K, C, h, w] and responses [B, K, H, W]."""
        responses = at_least_float32(step.local.images["responses"])
        filters = step.local.extra["filters"].to(responses.dtype)
        logits, category = self.logits(step.features), step.features.category
        check_labels(category, self.categories)
        with torch.autocast(responses.device.type, enabled=False):
            pairs = max(1, len(filters) * (len(filters) - 1)) if self.reduction == "mean" else 1
            some = float(len(responses) > 0)  # no gradient without an image
            return {
                "filters": some * of_filters(filters) / pairs + 0 * responses.sum(),
                "responses": step.mean(of_responses(responses)) / pairs,
                "classes": F.cross_entropy(logits, category, reduction="sum") / max(len(category), 1),
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
