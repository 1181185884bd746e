"""Softmax cross entropy over the images of triplets."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import Classifier, Features, Step, at_least_float32, check_labels


class TripletCrossEntropy(Classifier):
    """Softmax cross entropy of sketch, photo p+ and photo p- of each triplet, by a linear classifier on the code (Pang et al. 2017, eq. 2 and 3).

        L_C = -mean over triplets and their three images of log exp(W_y . f + b_y) / sum_c exp(W_c . f + b_c)     f the L2-normalised embedding

    An image counts once for each triplet that it is in: each sketch once, each photo as p+ and as p-. Embedding [N, D] and category [N] to a
    scalar, zero without triplets. Needs a miner, such as `instance_triplets`. Raises InputError for a category outside 0..C-1.

    Args:
        dim: width D of the embedding, which training fills in
        categories: number C of categories, which training fills in

    >>> TripletCrossEntropy(dim=256, categories=10).classifier
    Linear(in_features=256, out_features=10, bias=True)
    """

    needs = frozenset({"triplets"})

    def __init__(self, *, dim: Annotated[int, Ge(1)], categories: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.classifier = nn.Linear(dim, categories)

    def logits(self, features: Features) -> Tensor:
        """Logits of each row [N, C]."""
        codes = F.normalize(at_least_float32(features.embedding), dim=1)
        with torch.autocast(codes.device.type, enabled=False):
            return F.linear(codes, self.classifier.weight.to(codes.dtype), self.classifier.bias.to(codes.dtype))

    def forward(self, step: Step) -> Tensor:
        """Mean over the images of all triplets, from the embedding [N, D]: a scalar []."""
        images = [rows for kind in step.triplets.values() for rows in (kind.anchor, kind.positive, kind.negative)]
        features = step.features[torch.cat([step.features.source[:0], *images])]
        check_labels(features.category, self.classifier.out_features)
        return F.cross_entropy(self.logits(features), features.category, reduction="sum") / max(len(features), 1)
