"""Supervised contrastive loss between the sketches and the photos of a batch, or among all rows."""

import math
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.interfaces import PHOTO, SKETCH, Loss, Step


class SupCon(Loss):
    """Supervised contrastive loss of rows of one category against all others (Khosla et al. 2020, eq. 2, L_out).

        L = mean over anchors a of 1/|P(a)| sum_{p in P(a)} -log(exp(z_ap) / sum_c exp(z_ac)),    z = -d^2 / (2 temperature)

    d are the encoder's distances [N, N] of all processes: z is the cosine over the temperature, but for a constant, where vectors are of unit
    length. P(a) are the candidates c of the anchor's category. With `pairs` "across", candidates are the rows of the other modality: the photos of a
    sketch, and the sketches of a photo; with "all" they are all other rows, as in the paper. Anchors without a category or without a positive do not
    count.

    Args:
        temperature: temperature of the similarities; 0.1 in the paper
        pairs: candidates of an anchor, "across" modalities or "all"

    >>> SupCon(temperature=0.1)(step)
    tensor(...)
    """

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1, pairs: Literal["across", "all"] = "across") -> None:
        super().__init__()
        self.temperature, self.pairs = temperature, pairs

    def forward(self, step: Step) -> Tensor:
        """Mean over anchors, a scalar []."""
        features = step.features
        logits = at_least_float32(step.distances).square() / (-2 * self.temperature)
        same = (features.category[:, None] == features.category) & (features.category >= 0)
        if self.pairs == "all":
            return supcon(logits, same, ~torch.eye(len(logits), dtype=torch.bool, device=logits.device))
        sketch, photo = (features.modality == modality for modality in (SKETCH, PHOTO))
        return supcon(logits, same, (sketch[:, None] & photo) | (photo[:, None] & sketch))


def supcon(logits: Tensor, same: Tensor, candidate: Tensor) -> Tensor:
    """Mean over anchors of the mean over their positives of -log(exp(z_ap) / sum_c exp(z_ac)), for logits z [A, C] (Khosla et al. 2020, eq. 2).

    `candidate` [A, C] says which c count, and those of them that are the `same` [A, C] are positive. A scalar []; zero, with a gradient, without an
    anchor that has a positive.
    """
    positive = same & candidate
    counts = positive.sum(1)
    anchors = counts > 0
    scores, among = logits[anchors], positive[anchors]
    partition = scores.masked_fill(~candidate[anchors], -math.inf).logsumexp(1)
    means = torch.where(among, scores, 0).sum(1) / counts[anchors]
    return (partition - means).sum() / max(len(scores), 1) + 0 * logits.sum()
