"""Encoder with a linear head on its queries, learnt from users' judgements; the gallery stays as it is."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.interfaces import Batch, Encoder, Wrapper


class QueryHead(Wrapper):
    """Queries q of `encoder` become q + A q + b, at the length of q; photos keep their vectors, so that an index of them stays valid.

    A and b begin at zero. `sbirlib.adaptation` learns them from judgements of results; no loss trains them, so they are buffers.

    Args:
        encoder: encoder that made the gallery
        width: length V of a query vector; 0 is the encoder's `vector_dim`
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, *, encoder: Encoder, width: Annotated[int, Ge(0)] = 0) -> None:
        super().__init__(encoder)
        width = width or encoder.vector_dim
        self.register_buffer("weight", torch.zeros(width, width))
        self.register_buffer("bias", torch.zeros(width))

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, S, V]."""
        return headed(self.encoder.query_vectors(batch), self.weight, self.bias)


def headed(queries: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Queries q [..., V] as q + A q + b, at the length of q, with the matrix A [V, V] and b [V]."""
    changed: Tensor = queries + nn.functional.linear(queries, weight, bias)
    scaled: Tensor = changed * (queries.norm(dim=-1, keepdim=True) / changed.norm(dim=-1, keepdim=True).clamp(min=1e-12))
    return scaled
