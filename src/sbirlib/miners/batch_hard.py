"""Batch-hard mining: the hardest positive and negative of each anchor, of any modality."""

from torch import Tensor

from sbirlib.interfaces import Features, Miner, Triplets
from sbirlib.miners.hardest import hardest, join, pairs


class BatchHard(Miner):
    """For each anchor its farthest positive and nearest negative, of any modality (Hermans et al. 2017, eq. 5), as the kind "hard".

        positive = argmax_i D(a, i), y_i = y_a, i != a        negative = argmin_j D(a, j), y_j != y_a

    An anchor without both gives no triplet; of rows at one distance the lowest counts.

    Args:
        same_source: allow positives that were synthesised from the anchor's own image

    >>> BatchHard()(features, distances)["hard"].anchor
    tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11])
    """

    def __init__(self, *, same_source: bool = True) -> None:
        super().__init__()
        self.same_source = same_source

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        """At most one triplet for each row, from distances [N, N]."""
        positive, negative = pairs(features, same_source=self.same_source)
        return {"hard": join(hardest(distances, positive, farthest=True), hardest(distances, negative, farthest=False))}
