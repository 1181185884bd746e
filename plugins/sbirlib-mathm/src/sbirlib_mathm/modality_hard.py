"""MATHM's three kinds of hard triplets, told apart by the modality of positive and negative."""

from collections.abc import Sequence

from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Features, Miner, Triplets
from sbirlib.miners.hardest import hardest, join, pairs

# kind: (is the positive of the other modality, is the negative)
KINDS = {"cross": (True, True), "within": (False, False), "hybrid": (True, False)}


class ModalityHard(Miner):
    """For each anchor, sketch or photo, the farthest positive and nearest negative of given modalities (Huang et al. 2022, eq. 5).

        positive = argmax_i D(a, i), y_i = y_a, m_i = m_p        negative = argmin_j D(a, j), y_j != y_a, m_j = m_n

    with m_a != m_p = m_n for "cross" (eq. 4), m_a = m_p = m_n for "within" (eq. 7), m_a = m_n != m_p for "hybrid" (eq. 8).
    The anchor is never its own positive; one without both gives no triplet; of rows at one distance the lowest is taken.
    `same_source=False` leaves out positives made from the anchor's own image. Goes well with the loss `balanced_triplet`.
    Raises InputError for an unknown kind.

    >>> ModalityHard(kinds=["cross", "hybrid"]).kinds
    ('cross', 'hybrid')
    """

    def __init__(self, *, kinds: Sequence[str] = ("cross", "within", "hybrid"), same_source: bool = True) -> None:
        super().__init__()
        if isinstance(kinds, str) or not kinds:
            raise InputError(f"modality_hard takes a list of kinds, got {kinds!r}: give one or more of {list(KINDS)}")
        for kind in kinds:
            if kind not in KINDS:
                raise InputError(f"modality_hard knows no kind {kind!r}{nearest(str(kind), KINDS)}")
        self.kinds = tuple(dict.fromkeys(kinds))
        self.same_source = same_source

    def forward(self, features: Features, distances: Tensor) -> dict[str, Triplets]:
        positive, negative = pairs(features, same_source=self.same_source)
        other = features.modality[:, None] != features.modality
        sides = {True: other, False: ~other}
        chosen = [KINDS[kind] for kind in self.kinds]
        positives = {side: hardest(distances, positive & sides[side], farthest=True) for side in {p for p, _ in chosen}}
        negatives = {side: hardest(distances, negative & sides[side], farthest=False) for side in {n for _, n in chosen}}
        return {kind: join(positives[p], negatives[n]) for kind, (p, n) in zip(self.kinds, chosen, strict=True)}
