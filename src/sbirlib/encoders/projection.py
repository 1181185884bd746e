"""Encoder with a linear layer on the vectors of another."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import nn

from sbirlib.distance import at_least_float32
from sbirlib.interfaces import Batch, Encoder, Features


class Projection(Encoder):
    """A linear layer without bias on the vectors v of `encoder`: an embedding W v, and its unit vector.

    With the encoder frozen and its features cached, this is all that trains. Queries have one vector each, those of their own row.

    Args:
        encoder: encoder whose vectors are projected
        dim: width D of the embedding
        dropout: share of the vector's entries that training sets to zero

    >>> Projection(encoder=encoder, dim=8).layer.weight.shape
    torch.Size([8, 16])
    """

    def __init__(
        self, *, encoder: Encoder, dim: Annotated[int, Ge(1)] = 512, dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    ) -> None:
        super().__init__()
        self.encoder, self.provides = encoder, encoder.provides
        self.layer, self.dropout = nn.Linear(encoder.vector_dim, dim, bias=False), nn.Dropout(dropout)
        self.dim = self.vector_dim = dim

    def forward(self, batch: Batch) -> Features:
        features: Features = self.encoder(batch)
        embedding = at_least_float32(self.layer(self.dropout(features.vector)))
        return replace(features, embedding=embedding, vector=F.normalize(embedding, dim=1))
