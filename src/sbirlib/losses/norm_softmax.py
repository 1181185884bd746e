"""Normalised softmax, a classifier of cosines."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from sbirlib.distance import at_least_float32
from sbirlib.interfaces import SKETCH, Classifier, Features, Step
from sbirlib.losses.cross_entropy import cross_entropy


class NormSoftmax(Classifier):
    """Cross entropy of cosines with one proxy a category, over a temperature (Zhai & Wu 2019; ACNet, eq. 3).

        L = -log exp(x . p_y / t) / sum_c exp(x . p_c / t), x and p of unit length

    Embedding [N, D] and category [N] to the mean over rows; proxies [C, D] are initialised from N(0, 1). Equals pytorch-metric-learning's
    NormalizedSoftmaxLoss, but never changes the proxies' dtype. Raises InputError for a category outside 0..C-1.

    Args:
        dim: width D of the embedding, which training fills in
        categories: number C of categories, which training fills in
        temperature: temperature t, by which cosines are divided
        apart: give the means over sketches, photos and synthesised rows as separate terms (ACNet, eq. 5)

    >>> NormSoftmax(dim=512, categories=10).proxies.shape
    torch.Size([10, 512])
    """

    def __init__(
        self,
        *,
        dim: Annotated[int, Ge(1)],
        categories: Annotated[int, Ge(1)],
        temperature: Annotated[float, Gt(0)] = 0.05,
        apart: bool = False,
    ) -> None:
        super().__init__()
        self.temperature, self.apart = temperature, apart
        self.proxies = nn.Parameter(torch.randn(categories, dim))

    def logits(self, features: Features) -> Tensor:
        """Logits of each row [N, C]."""
        embedding = at_least_float32(features.embedding)
        with torch.autocast(embedding.device.type, enabled=False):
            proxies = F.normalize(self.proxies.to(embedding.dtype), dim=1)
            return F.linear(F.normalize(embedding, dim=1), proxies) / self.temperature

    def forward(self, step: Step) -> Tensor | dict[str, Tensor]:
        """Mean over rows of the embedding [N, D], a scalar []; with `apart` one of each group of rows."""
        features = step.features
        logits = self.logits(features)
        if not self.apart:
            return cross_entropy(logits, features.category)
        synthesised, sketch = features.view > 0, features.modality == SKETCH
        rows = {"sketch": sketch & ~synthesised, "photo": ~sketch & ~synthesised, "synthesised": synthesised}
        return {name: cross_entropy(logits[own], features.category[own]) for name, own in rows.items()}
