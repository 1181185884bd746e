"""Modality-aware hard mining: three kinds of triplets, by the modality of positive and negative."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from sbirlib.plugin_api import Features, Miner, Triplets, hardest, join, pairs, semi_hard

# kind: (is the positive of the other modality, is the negative)
KINDS = {"cross": (True, True), "within": (False, False), "hybrid": (True, False)}


class ModalityHard(Miner):
    """For each anchor, sketch or photo, the farthest positive and nearest negative of given modalities (Huang et al. 2022, eq. 5).

        positive = argmax_i D(a, i), y_i = y_a, m_i = m_p        negative = argmin_j D(a, j), y_j != y_a, m_j = m_n

    with m_a != m_p = m_n for "cross" (eq. 4), m_a = m_p = m_n for "within" (eq. 7), m_a = m_n != m_p for "hybrid" (eq. 8).
    The anchor is never its own positive; one without both gives no triplet; of rows at one distance the lowest counts. The loss
    `balanced_triplet` is made for these kinds. Uniform draws are by torch's global generator.

    Args:
        kinds: kinds of triplets, one or more of "cross", "within" and "hybrid"
        mining: "hardest", eq. 5; "semi_hard", a uniform positive and the nearest negative farther than it, or without one the farthest (Schroff et
            al. 2015); or "random", both uniform
        same_source: allow positives that were synthesised from the anchor's own image

    >>> ModalityHard(kinds=["cross", "hybrid"]).kinds
    ('cross', 'hybrid')
    """

    def __init__(
        self,
        *,
        kinds: Annotated[Sequence[Literal["cross", "within", "hybrid"]], MinLen(1)] = ("cross", "within", "hybrid"),
        mining: Literal["hardest", "semi_hard", "random"] = "hardest",
        same_source: bool = True,
    ) -> None:
        super().__init__()
        self.kinds = tuple(dict.fromkeys(kinds))
        self.mining = mining
        self.same_source = same_source

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        """Triplets by kind, at most one for each row, from distances [N, N]."""
        positive, negative = pairs(features, same_source=self.same_source)
        other = features.modality[:, None] != features.modality
        sides = {True: other, False: ~other}
        modalities = [KINDS[kind] for kind in self.kinds]
        # the farthest under random distances is a uniform draw
        order = distances if self.mining == "hardest" else torch.rand_like(distances)
        positives = {side: hardest(order, positive & sides[side], farthest=True) for side in sorted({p for p, _ in modalities})}
        if self.mining == "semi_hard":
            near = {side: distances.gather(1, row.clamp(min=0)[:, None]).squeeze(1) for side, row in positives.items()}
            triplets = [(positives[p], semi_hard(distances, negative & sides[n], near[p])) for p, n in modalities]
        else:
            negatives = {side: hardest(order, negative & sides[side], farthest=False) for side in sorted({n for _, n in modalities})}
            triplets = [(positives[p], negatives[n]) for p, n in modalities]
        return {kind: join(*rows) for kind, rows in zip(self.kinds, triplets, strict=True)}
