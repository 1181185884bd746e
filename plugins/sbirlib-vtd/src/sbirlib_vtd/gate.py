"""Distances under gates, as matrix products."""

import torch
from torch import Tensor


def weights(gate: Tensor) -> Tensor:
    """w = (1 + eta)^2 [..., V] of gates [..., V]: psi(a) = eta * a + a, so |psi(a) - psi(b)|^2 = sum w (a - b)^2 (Pang et al. 2019, eq. 8)."""
    return (1 + gate).square()


def gated_distances(vectors: Tensor, gate: Tensor, others: Tensor) -> Tensor:
    """sum_v w_v (a_v - b_v)^2 for vectors a [N, V], each under its gate [N, V], and others b [G, V], as [N, G]: two matrix products."""
    w = weights(gate)
    squared = (w * vectors.square()).sum(1, keepdim=True) - 2 * (w * vectors) @ others.T + w @ others.square().T
    return squared.clamp(min=0)


def gated_query(vectors: Tensor, gate: Tensor) -> Tensor:
    """[2 w a, -w, -sum w a^2], [N, S, 2V + 1], of vectors a [N, V] and gates [N, S, V]: its inner product with `plain_gallery` is
    minus the gated squared distance, the constant included, for draws of a gate compete."""
    w, a = weights(gate), vectors[:, None]
    return torch.cat([2 * w * a, -w, -(w * a.square()).sum(2, keepdim=True)], dim=2)


def plain_gallery(vectors: Tensor) -> Tensor:
    """[b, b^2, 1], [G, 2V + 1], of vectors b [G, V]."""
    return torch.cat([vectors, vectors.square(), torch.ones_like(vectors[:, :1])], dim=1)
