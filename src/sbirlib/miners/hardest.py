"""Candidate masks, the hardest candidate of each row, and triplets of both: shared by hard miners."""

import math

import torch
from torch import Tensor

from sbirlib.interfaces import Features, Triplets


def pairs(features: Features, *, same_source: bool) -> tuple[Tensor, Tensor]:
    """Masks [N, N] of each row's positives and negatives: of its category or not, never the row itself.

    `same_source=False` also leaves out positives that were synthesised from the row's own image.
    """
    same = features.category[:, None] == features.category
    negative = ~same
    if same_source:
        return same.fill_diagonal_(False), negative
    return same.logical_and_(features.source[:, None] != features.source), negative


def hardest(distances: Tensor, candidates: Tensor, *, farthest: bool) -> Tensor:
    """Index of the farthest (or nearest) candidate of each row [N], the lowest at ties, -1 where a row has none.

    `distances` and the mask `candidates` are [N, M].

    >>> distances = torch.tensor([[0.0, 2.0, 2.0]])
    >>> hardest(distances, torch.tensor([[False, True, True]]), farthest=True)
    tensor([1])
    """
    if not distances.numel():
        return torch.full((len(distances),), -1, device=distances.device)
    masked = torch.where(candidates, distances, -math.inf if farthest else math.inf)
    row = (masked.max(1) if farthest else masked.min(1)).indices
    return torch.where(candidates.gather(1, row[:, None]).squeeze(1), row, -1)


def semi_hard(distances: Tensor, candidates: Tensor, positive: Tensor) -> Tensor:
    """Index of the nearest candidate of each row that is farther than its positive's distance [N], or without one of the farthest (Schroff et al.
    2015); -1 where a row has no candidate.

    `distances` and the mask `candidates` are [N, M].

    >>> distances = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    >>> semi_hard(distances, torch.ones(2, 3, dtype=torch.bool), torch.tensor([1.0, 4.0]))
    tensor([2, 1])
    """
    beyond = hardest(distances, candidates & (distances > positive[:, None]), farthest=False)
    return torch.where(beyond >= 0, beyond, hardest(distances, candidates, farthest=True))


def join(positive: Tensor, negative: Tensor) -> Triplets:
    """Triplets of the rows that have both, from a positive and a negative for each row [N], -1 for none."""
    anchor = ((positive >= 0) & (negative >= 0)).nonzero().squeeze(1)
    return Triplets(anchor, positive[anchor], negative[anchor])
