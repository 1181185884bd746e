"""Encoder whose vectors have the mean of their modality taken away."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from sbirlib.distance import are_units
from sbirlib.errors import InputError
from sbirlib.features import PHOTO, SKETCH
from sbirlib.interfaces import Batch, Encoder, Features, Step, Wrapper


class Centred(Wrapper):
    """Vectors v of `encoder`, less the mean of the training images of their modality, at unit length; for search, not in training.

        u = unit(v - mean_m),    m the modality of the image

    Sketches and photos lie in two cones of the sphere (the modality gap, Liang et al. 2022), and neither cone's axis names a category. Losses
    and miners see v; the means [2, V] follow those of the batches, over about the last `batches` of them. Before training they are zero, and
    the encoder is the inner one. Raises InputError for vectors that are not of unit length, and inside another encoder that a phase trains.

    Args:
        encoder: encoder of unit vectors, both queries and photos
        batches: training batches over which the means are taken

    >>> Centred(encoder=encoder).means.shape
    torch.Size([2, 16])
    """

    means: Tensor
    seen: Tensor  # batches of sketches, and of photos, up to `batches`

    def __init__(self, *, encoder: Encoder, batches: Annotated[int, Ge(1)] = 50) -> None:
        super().__init__(encoder)
        self.batches = batches
        self.register_buffer("means", torch.zeros(2, encoder.vector_dim))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    def forward(self, batch: Batch) -> Features:
        features = super().forward(batch)
        return features if self.training else replace(features, vector=self._centred(features.vector, features.modality))

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, S, V]."""
        queries = super().query_vectors(batch)
        return torch.stack([self._centred(vectors, batch.modality) for vectors in queries.unbind(1)], 1)

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, V]."""
        return self._centred(super().gallery_vectors(batch), batch.modality)

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Move the means towards those of the batch's images, of all processes."""
        if step.encoder is not self:
            raise InputError(
                "centred takes the means of what a phase trains: make it the outermost encoder, and give its phases no encoder"
            )
        features = step.features
        for modality in (SKETCH, PHOTO):
            rows = (features.modality == modality) & (features.view == 0)
            if rows.any():
                self.seen[modality] = (self.seen[modality] + 1).clamp(max=self.batches)
                self.means[modality].lerp_(features.vector[rows].mean(0).to(self.means), 1 / self.seen[modality])

    def _centred(self, vectors: Tensor, modality: Tensor) -> Tensor:
        """Unit vectors [B, V] less the mean of their modality [B], at unit length."""
        if not are_units(vectors):
            raise InputError(f"centred takes means from unit vectors, and those of {type(self.encoder).__name__} have another length")
        centred = F.normalize(vectors - self.means[modality].to(vectors), dim=1)
        return torch.where(self.seen[modality, None] > 0, centred, vectors)
