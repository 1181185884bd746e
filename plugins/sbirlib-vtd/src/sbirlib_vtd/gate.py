"""Distances under gates, as matrix products."""

import torch
from torch import Tensor

LENGTHS = (0.3, 1.25)  # range of the lengths that search tries for a photo, in those of the sketch: cos |psi(a)| / |psi(b)|
TINY = 1e-12  # least squared length: a gate of -1 leaves none


def weights(gate: Tensor) -> Tensor:
    """w = (1 + eta)^2 [..., V] of gates [..., V]: psi(a) = eta * a + a, so |psi(a) - psi(b)|^2 = sum w (a - b)^2 (Pang et al. 2019, eq. 8)."""
    return (1 + gate).square()


def gated_distances(vectors: Tensor, gate: Tensor, others: Tensor) -> Tensor:
    """sum_v w_v (a_v - b_v)^2 for vectors a [N, V], each under its gate [N, V], and others b [G, V], as [N, G]: two matrix products."""
    w = weights(gate)
    squared = (w * vectors.square()).sum(1, keepdim=True) - 2 * (w * vectors) @ others.T + w @ others.square().T
    return squared.clamp(min=0)


def gated_cosines(vectors: Tensor, gate: Tensor, others: Tensor) -> Tensor:
    """sum w a b / sqrt(sum w a^2 sum w b^2), the cosine of psi(a) and psi(b), for vectors a [N, V], each under its gate [N, V], and others
    b [G, V], as [N, G]: two matrix products."""
    w = weights(gate)
    own, theirs = (w * vectors.square()).sum(1, keepdim=True), w @ others.square().T
    return (w * vectors) @ others.T * (own * theirs).clamp(min=TINY).rsqrt()


def gated_query(vectors: Tensor, gate: Tensor) -> Tensor:
    """[2 w a, -w, -sum w a^2], [N, S, 2V + 1], of vectors a [N, V] and gates [N, S, V]: its inner product with `plain_gallery` is
    minus the gated squared distance, the constant included, for draws of a gate compete."""
    w, a = weights(gate), vectors[:, None]
    return torch.cat([2 * w * a, -w, -(w * a.square()).sum(2, keepdim=True)], dim=2)


def normalised_query(vectors: Tensor, gate: Tensor, count: int) -> Tensor:
    """[2 k w a, -k^2 w, -sum w a^2] / sum w a^2, [N, S count, 2V + 1], of vectors a [N, V], gates [N, S, V] and `count` lengths k within `LENGTHS`.

    Its inner product with `plain_gallery` is -|psi(a) - k psi(b)|^2 / |psi(a)|^2, whose largest value over all k > 0 is cos^2 - 1, at
    k = cos |psi(a)| / |psi(b)|. The largest of `count` is lower by at most (sqrt(r) - 1)^2 cos^2, r being the ratio of neighbours, for such a k
    within `LENGTHS`. No finite number of products gives the cosine itself: its denominator sqrt(sum w b^2) depends on gate and photo.
    """
    low, high = LENGTHS
    lengths = [low * (high / low) ** ((i + 0.5) / count) for i in range(count)]
    product, square, constant = gated_query(vectors, gate).split([vectors.shape[1]] * 2 + [1], dim=2)
    scaled = torch.stack([torch.cat([k * product, k**2 * square, constant], dim=2) for k in lengths], dim=2)
    query: Tensor = scaled / -constant.clamp(max=-TINY)[:, :, None]
    return query.flatten(1, 2)


def plain_gallery(vectors: Tensor) -> Tensor:
    """[b, b^2, 1], [G, 2V + 1], of vectors b [G, V]."""
    return torch.cat([vectors, vectors.square(), torch.ones_like(vectors[:, :1])], dim=1)
