"""Random mining: one positive and one negative for each anchor."""

import torch
from torch import Tensor

from sbirlib.interfaces import Features, Miner, Triplets
from sbirlib.miners.hardest import hardest, join, pairs


class Random(Miner):
    """For each anchor one positive and one negative, uniformly, of any modality, as the kind "random".

    Draws from torch's global generator. An anchor without both gives no triplet.

    Args:
        same_source: allow positives that were synthesised from the anchor's own image

    >>> Random()(features, distances)["random"].negative
    tensor([...])
    """

    def __init__(self, *, same_source: bool = True) -> None:
        super().__init__()
        self.same_source = same_source

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        """At most one triplet for each row; of distances [N, N] the shape alone is read."""
        positive, negative = pairs(features, same_source=self.same_source)
        draw = torch.rand(distances.shape, device=distances.device)  # the hardest under random distances is a uniform draw
        return {"random": join(hardest(draw, positive, farthest=True), hardest(draw, negative, farthest=True))}
