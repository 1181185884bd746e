"""Candidate masks, the hardest candidate of each row, and triplets of both: shared by hard miners."""

import math

import torch
from torch import Tensor

from sbirlib.interfaces import Features, Triplets

WITH_OFFSET = (torch.float32, torch.float64)  # types that are compared by an offset on a CPU
BLOCK = 2**19  # distances that are gone through at once, in memory that stays the same


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
    if distances.device.type != "cpu" or distances.dtype not in WITH_OFFSET:
        return _masked(distances, candidates, farthest)
    row = _offset(distances, candidates, farthest)
    # the others are rows without a candidate, or with values past the offset
    other = (~candidates.gather(1, row[:, None]).squeeze(1)).nonzero().squeeze(1)
    if len(other):
        row[other] = _masked(distances[other], candidates[other], farthest)
    return row


def _masked(distances: Tensor, candidates: Tensor, farthest: bool) -> Tensor:
    """`hardest` on any device, of any values [N, M]."""
    masked = torch.where(candidates, distances, -math.inf if farthest else math.inf)
    row = (masked.max(1) if farthest else masked.min(1)).indices
    row = torch.where(candidates.gather(1, row[:, None]).squeeze(1), row, candidates.max(1).indices)  # all candidates are as the mask
    return torch.where(candidates.any(1), row, -1)


def _offset(distances: Tensor, candidates: Tensor, farthest: bool) -> Tensor:
    """Index of the extreme value of each row [N] once all but the candidates are far off; where it is a candidate, it is the hardest.

    Ten times as quick as a mask on a CPU: torch selects by a mask, and finds indices, one value at a time.
    """
    far = torch.finfo(distances.dtype).max / 4
    height = max(1, BLOCK // distances.shape[1])
    values = torch.empty(min(height, len(distances)), distances.shape[1], dtype=distances.dtype)
    rows = torch.empty(len(distances), dtype=torch.int64)
    for start in range(0, len(distances), height):
        block = slice(start, start + height)
        outside = values[: len(rows[block])].copy_((~candidates[block]).view(torch.int8))
        torch.add(distances.detach()[block], outside, alpha=-far if farthest else far, out=outside)
        rows[block] = torch.from_numpy(outside.numpy().argmax(1) if farthest else outside.numpy().argmin(1))
    return rows


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
