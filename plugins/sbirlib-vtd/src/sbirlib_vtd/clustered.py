"""Any encoder's embeddings, each replaced by the nearest of K centres."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib_vtd.dictionary import revived


class Clustered(Encoder):
    """c_k with k = argmin_k |z - c_k|^2, z the embedding of `encoder`: "Ours-VAE-Kmeans" around `variational` (Pang et al. 2019, table 1).

    The centres [K, dim] start from N(0, I), which a variational code is near, and are trained in a phase of their own by `quantisation`:
    k-means by gradient (Bottou and Bengio 1995). Centres that no image took in an epoch come back near the most taken, perturbed by
    `revival`. Gives `code`, which is z without gradient, and `assignment` [B, K], minus the squared distances. Raises InputError for fewer
    than 2 clusters.

    >>> Clustered(encoder=Variational(dim=64, channels=8), clusters=100).dim    # doctest: +SKIP
    64
    """

    counts: Tensor
    epochs: Tensor

    def __init__(self, *, encoder: Encoder, clusters: int = 300, revival: float = 0.05) -> None:
        super().__init__()
        if clusters < 2:
            raise InputError(f"clustered: clusters must be at least 2, got {clusters}")
        self.encoder, self.revival = encoder, revival
        self.dim = self.vector_dim = encoder.dim
        self.provides = frozenset({"assignment", "code"})
        self.centres = nn.Parameter(torch.randn(clusters, encoder.dim))
        self.register_buffer("counts", torch.zeros(clusters, dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> Features:
        inner: Features = self.encoder(batch)
        code = inner.embedding.detach()
        near = -torch.cdist(code, self.centres.detach()).square()
        return replace(Features.of(batch, self.centres[near.argmax(1)], rows={"assignment": near, "code": code}), source=inner.source)

    def after_step(self, step: Step) -> None:
        """Count the centres that the images of all processes took."""
        self.counts += torch.bincount(step.features.rows["assignment"].argmax(1), minlength=len(self.counts))

    def end_epoch(self) -> None:
        """Bring centres back that no image took since the last epoch."""
        self.centres.data.copy_(revived(self.centres.data, self.counts, noise=self.revival, seed=int(self.epochs)))
        self.counts.zero_()
        self.epochs += 1
