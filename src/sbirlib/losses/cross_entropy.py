"""Softmax classifier, and the cross entropy that all classifiers share."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError
from sbirlib.interfaces import Classifier, Features, Step


def check_labels(category: Tensor, categories: int) -> None:
    """Raise InputError for a category [N] outside 0..C-1.

    Those on a GPU are not read, for each step would wait for it: training has looked at its labels before.
    """
    if category.numel() and category.device.type == "cpu":
        low, high = (int(value) for value in category.aminmax())
        if low < 0 or high >= categories:
            raise InputError(
                f"categories {low} to {high} were given to a classifier of {categories}, which takes 0 to {categories - 1}: "
                "let the pipeline fill in `categories`, or number the training set's categories from 0 (dataset.train does)"
            )


def cross_entropy(logits: Tensor, category: Tensor) -> Tensor:
    """Mean of -log softmax(logits)[category] over rows of logits [N, C], a scalar; zero, with a gradient, without rows."""
    check_labels(category, logits.shape[1])
    return F.cross_entropy(logits, category, reduction="sum") / max(len(category), 1)


class CrossEntropy(Classifier):
    """Softmax cross entropy of a linear classifier on the un-normalised embedding (Huang et al. 2022, eq. 2).

        L = -log exp(W_y . f) / sum_c exp(W_c . f)        with a scale s: f is s times the L2-normalised embedding

    Embedding [N, D] and category [N] to the mean over rows; W [C, D] and `bias` [C] are the classifier's. Raises InputError for a category
    outside 0..C-1.

    Args:
        dim: width D of the embedding, which training fills in
        categories: number C of categories, which training fills in
        bias: add a bias to each logit
        scale: length s of the embedding; none leaves the embedding un-normalised

    >>> loss = CrossEntropy(dim=512, categories=10)
    >>> loss.classifier
    Linear(in_features=512, out_features=10, bias=False)
    """

    def __init__(
        self,
        *,
        dim: Annotated[int, Ge(1)],
        categories: Annotated[int, Ge(1)],
        bias: bool = False,
        scale: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.classifier = nn.Linear(dim, categories, bias=bias)

    def logits(self, features: Features) -> Tensor:
        """Logits of each row [N, C]."""
        embedding = at_least_float32(features.embedding)
        if self.scale is not None:
            embedding = self.scale * F.normalize(embedding, dim=1)
        weight, bias = (None if value is None else value.to(embedding.dtype) for value in (self.classifier.weight, self.classifier.bias))
        with torch.autocast(embedding.device.type, enabled=False):
            return F.linear(embedding, weight, bias)

    def forward(self, step: Step) -> Tensor:
        """Mean over rows of the embedding [N, D]: a scalar []."""
        return cross_entropy(self.logits(step.features), step.features.category)
