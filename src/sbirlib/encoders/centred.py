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
    """Vectors v of `encoder`, less the mean of the training images of their modality, at unit length.

        u = unit(v - mean_m),    m the modality of the image

    Sketches and photos lie in two cones of the sphere (the modality gap, Liang et al. 2022), and neither cone's axis names a category. Search sees
    u; losses, miners and an encoder around this one see v in training, or u where `training`. The means [2, V] follow those of the batches, over
    about the last `batches` of them. Before training they are zero, and the encoder is the inner one. Raises InputError for vectors that are not
    of unit length, and where a phase trains a part of the encoder without this one.

    Args:
        encoder: encoder of unit vectors, both queries and photos
        batches: training batches over which the means are taken
        training: take the means away in training too

    >>> Centred(encoder=encoder).means.shape
    torch.Size([2, 16])
    """

    means: Tensor
    seen: Tensor  # batches of sketches, and of photos, up to `batches`

    def __init__(self, *, encoder: Encoder, batches: Annotated[int, Ge(1)] = 50, training: bool = False) -> None:
        super().__init__(encoder)
        self.batches, self.trains_centred = batches, training
        self.rows = f"uncentred{sum(isinstance(module, Centred) for module in encoder.modules())}"  # one may be around another
        self.provides = encoder.provides | {self.rows}
        self.register_buffer("means", torch.zeros(2, encoder.vector_dim))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    def forward(self, batch: Batch) -> Features:
        features = super().forward(batch)
        rows = {**features.rows, self.rows: features.vector}
        vector = features.vector if self.training and not self.trains_centred else self._centred(features.vector, features.modality)
        return replace(features, vector=vector, rows=rows)

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
        features = step.features
        if self.rows not in features.rows:
            raise InputError("centred takes the means of the images that a phase encodes: give its phases no encoder inside it")
        for modality in (SKETCH, PHOTO):
            rows = (features.modality == modality) & (features.view == 0)
            if rows.any():
                self.seen[modality] = (self.seen[modality] + 1).clamp(max=self.batches)
                self.means[modality].lerp_(features.rows[self.rows][rows].mean(0).to(self.means), 1 / self.seen[modality])

    def _centred(self, vectors: Tensor, modality: Tensor) -> Tensor:
        """Unit vectors [B, V] less the mean of their modality [B], at unit length."""
        if not are_units(vectors):
            raise InputError(f"centred takes means from unit vectors, and those of {type(self.encoder).__name__} have another length")
        centred = F.normalize(vectors - self.means[modality].to(vectors), dim=1)
        return torch.where(self.seen[modality, None] > 0, centred, vectors)
