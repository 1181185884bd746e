"""Distillation: the vectors of a frozen teacher, or how they lie to each other, are kept."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, Features, Loss, Step


class Distillation(Loss):
    """Difference of the rows from a frozen teacher's, t [N, T], which the encoder `taught` provides.

        "relations"    L = mean over i of KL(p_i | q_i),    p_ij ~ exp(t_i.t_j / temperature),    q_ij ~ exp(-d_ij^2 / (2 temperature)),    j != i
        "features"     L = mean over i of 1 - v_i.t_i

    d are the encoder's distances [N, N], so that q_ij ~ exp(v_i.v_j / temperature) where vectors v are of unit length. Relations are those of
    Passalis and Tefas (2018, eq. 5 and 6) with a softmax as kernel, and need no common width; features are those of a regression of directions. A
    teacher that knows photos alone is asked of photos alone; fine-tuning on sketches forgets what SAKE (Liu et al. 2019) keeps so. Rows of
    other views do not count. Raises InputError for "features" of another width than the teacher's.

    Args:
        of: what is kept, "relations" among rows or "features" of each
        rows: rows of "photos" or of "both" modalities
        temperature: temperature of the similarities, of relations alone

    >>> step = step_of(part("encoder", "taught", encoder=encoder, teacher=deepcopy(encoder)))
    >>> Distillation(of="relations")(step)
    tensor(...)
    """

    needs = frozenset({"teacher"})

    def __init__(
        self,
        *,
        of: Literal["relations", "features"] = "relations",
        rows: Literal["photos", "both"] = "photos",
        temperature: Annotated[float, Gt(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.of, self.rows, self.temperature = of, rows, temperature

    def forward(self, step: Step) -> Tensor:
        """Mean over rows, a scalar []."""
        features = step.features
        keep = self._kept(features)
        teacher = features.rows["teacher"][keep]
        if self.of == "features":
            return directions(at_least_float32(features.vector)[keep], teacher)
        squared = at_least_float32(step.distances)[keep][:, keep].square()
        return relations(squared / (-2 * self.temperature), teacher @ teacher.T / self.temperature)

    def _kept(self, features: Features) -> Tensor:
        own = features.view == 0
        return own & (features.modality == PHOTO) if self.rows == "photos" else own


def relations(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows i of KL(p_i | q_i), p_i and q_i the softmax over j != i of teacher's and student's logits [n, n]; zero below three rows.

    A scalar []. With two rows each is sure of the other.
    """
    count = len(student)
    if count < 3:
        return 0 * student.sum()
    others = ~torch.eye(count, dtype=torch.bool, device=student.device)
    ours, theirs = (logits[others].reshape(count, count - 1).log_softmax(1) for logits in (student, teacher.to(student)))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def directions(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows of 1 - cos of vectors [n, V] and the teacher's [n, V]: a scalar []; zero, with a gradient, without a row."""
    if student.shape[1] != teacher.shape[1]:
        raise InputError(
            f'distillation of "features" compares vectors of one width, and these have {student.shape[1]}, the teacher\'s {teacher.shape[1]}: '
            'give encoder and teacher the same dim, or take of = "relations"'
        )
    return (1 - F.cosine_similarity(student, teacher.to(student), dim=1)).sum() / max(len(student), 1)
