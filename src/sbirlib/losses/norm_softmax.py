"""The normalised softmax: a classifier of cosines."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.distance import at_least_float32
from sbirlib.interfaces import SKETCH, Classifier, Features, Step
from sbirlib.losses.cross_entropy import cross_entropy


class NormSoftmax(Classifier):
    """Cross entropy of cosines with one proxy a category, over a temperature (Zhai & Wu 2019; ACNet, eq. 3).

        L = -log exp(x . p_y / t) / sum_c exp(x . p_c / t), x and p of unit length

    Embedding [N, D] and category [N] to the mean over rows; proxies [C, D] are drawn from N(0, 1). `dim` is D and `categories` is C: the
    pipeline fills them in. `apart` gives the means over sketches, photos and synthesised rows as terms of their own (ACNet, eq. 5). Equals
    pytorch-metric-learning's NormalizedSoftmaxLoss, but never changes the proxies' dtype. Raises InputError for a category outside 0..C-1.

    >>> NormSoftmax(dim=512, categories=10).proxies.shape
    torch.Size([10, 512])
    """

    def __init__(self, *, dim: int, categories: int, temperature: float = 0.05, apart: bool = False) -> None:
        super().__init__()
        self.temperature, self.apart = temperature, apart
        self.proxies = nn.Parameter(torch.randn(categories, dim))

    def logits(self, features: Features) -> Tensor:
        """[N, C]"""
        embedding = at_least_float32(features.embedding)
        with torch.autocast(embedding.device.type, enabled=False):
            proxies = F.normalize(self.proxies.to(embedding.dtype), dim=1)
            return F.linear(F.normalize(embedding, dim=1), proxies) / self.temperature

    def forward(self, step: Step) -> Tensor | dict[str, Tensor]:
        features = step.features
        logits = self.logits(features)
        if not self.apart:
            return cross_entropy(logits, features.category)
        made, sketch = features.view > 0, features.modality == SKETCH
        rows = {"sketch": sketch & ~made, "photo": ~sketch & ~made, "synthesised": made}
        return {name: cross_entropy(logits[own], features.category[own]) for name, own in rows.items()}
