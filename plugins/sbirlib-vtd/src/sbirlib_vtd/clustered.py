"""K-means quantisation of any encoder's embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import Batch, Encoder, Features
from sbirlib_vtd.quantiser import Quantiser


class Clustered(Quantiser):
    """c_k with k = argmin_k |z - c_k|^2, z the embedding of `encoder`: "Ours-VAE-Kmeans" around `variational` (Pang et al. 2019, table 1).

    The centres [K, dim] are initialised from N(0, I), the prior of a variational code, and trained in a separate phase by `quantisation`:
    k-means by gradient (Bottou and Bengio 1995). Rows have `code`, which is z without gradient, and `assignment` [B, K], minus the squared
    distances.

    Args:
        encoder: encoder of z
        clusters: number K of centres

    >>> Clustered(encoder=part("encoder", "variational", dim=64), clusters=100).dim
    64
    """

    def __init__(self, *, encoder: Encoder, clusters: Annotated[int, Ge(2)] = 300, revival: Annotated[float, Ge(0)] = 0.05) -> None:
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
        """Centres [K, dim]."""
        return self.centres
