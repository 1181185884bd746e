"""Any encoder's embeddings, each replaced by the nearest of K centres."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features
from sbirlib_vtd.quantiser import Quantiser


class Clustered(Quantiser):
    """c_k with k = argmin_k |z - c_k|^2, z the embedding of `encoder`: "Ours-VAE-Kmeans" around `variational` (Pang et al. 2019, table 1).

    The centres [K, dim] start from N(0, I), which a variational code is near, and are trained in a phase of their own by `quantisation`:
    k-means by gradient (Bottou and Bengio 1995). Centres that no image took in an epoch come back near the most taken, perturbed by
    `revival`. Gives `code`, which is z without gradient, and `assignment` [B, K], minus the squared distances. Raises InputError for fewer
    than 2 clusters.

    >>> Clustered(encoder=Variational(dim=64, channels=8), clusters=100).dim    # doctest: +SKIP
    64
    """

    def __init__(self, *, encoder: Encoder, clusters: int = 300, revival: float = 0.05) -> None:
        if clusters < 2:
            raise InputError(f"clustered: clusters must be at least 2, got {clusters}")
        super().__init__(count=clusters, revival=revival)
        self.encoder = encoder
        self.dim = self.vector_dim = encoder.dim
        self.provides = frozenset({"assignment", "code"})
        self.centres = nn.Parameter(torch.randn(clusters, encoder.dim))

    def forward(self, batch: Batch) -> Features:
        inner: Features = self.encoder(batch)
        code = inner.embedding.detach()
        near = -torch.cdist(code, self.centres.detach()).square()
        return replace(Features.of(batch, self.centres[near.argmax(1)], rows={"assignment": near, "code": code}), source=inner.source)

    def table(self) -> Tensor:
        return self.centres
