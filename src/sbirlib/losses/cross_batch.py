"""Supervised contrastive loss whose candidates are the batch's and, from a memory, those of earlier batches."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError
from sbirlib.interfaces import Features, Loss, Step
from sbirlib.losses.supcon import supcon


class CrossBatch(Loss):
    """Contrast of each row of the batch with the rows of the other modality, in the batch and in a memory of earlier ones (Wang et al. 2020).

        L = mean over anchors a of 1/|P(a)| sum_{p in P(a)} -log(exp(z_ap) / sum_c exp(z_ac)),    z = cosine / temperature

    Anchors are rows of the batch, of all processes. Candidates c are the batch's rows and the last `size` rows before them, as their vectors were
    then, without gradient: as the weights change slowly, they stand for what the encoder would give now. P(a) are the candidates of the
    anchor's category, or instance. Anchors without a label or without a positive do not count. With a memory of 0 rows it is `supcon`, where vectors
    are of unit length. The memory is part of the state, so training resumes exactly; it is empty when a phase begins. Where a step has several
    batches, all of them enter it at the step's end. Raises InputError for instances as positives where a row has none.

    Args:
        vector_dim: width V of the searched vector, which training fills in
        size: rows of the memory
        positives: rows that belong together, those of one "category" or of one "instance"
        temperature: temperature of the cosines

    >>> CrossBatch(vector_dim=512, size=1024, positives="instance").vectors.shape
    torch.Size([1024, 512])
    """

    vectors: Tensor  # [M, V], of unit length
    labels: Tensor  # int64 [M], -1 where there is none
    modality: Tensor  # int64 [M], -1 where there is no row yet
    place: Tensor  # int64 [], of the oldest row

    def __init__(
        self,
        *,
        vector_dim: Annotated[int, Ge(1)],
        size: Annotated[int, Ge(0)] = 1024,
        positives: Literal["category", "instance"] = "category",
        temperature: Annotated[float, Gt(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.size, self.positives, self.temperature = size, positives, temperature
        self.register_buffer("vectors", torch.zeros(size, vector_dim))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("modality", torch.full((size,), -1))
        self.register_buffer("place", torch.tensor(0))

    def forward(self, step: Step) -> Tensor:
        """Mean over the batch's anchors, a scalar []."""
        if step.progress == 0:  # rows of an earlier phase or training are of another encoder, and maybe of other labels
            self.modality.fill_(-1)
        rows, labels, modality = self._rows(step.features), self._labels(step.features), step.features.modality
        candidates = torch.cat([rows, self.vectors.to(rows.dtype)])
        with torch.autocast(rows.device.type, enabled=False):
            logits = rows @ candidates.T / self.temperature
        all_labels, all_modalities = torch.cat([labels, self.labels]), torch.cat([modality, self.modality])
        same = (labels[:, None] == all_labels) & (labels >= 0)[:, None]
        return supcon(logits, same, (modality[:, None] != all_modalities) & (all_modalities >= 0))

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Put the batch's rows in the place of the oldest."""
        if not self.size:
            return
        features = step.features[-self.size :]
        places = (self.place + torch.arange(len(features), device=self.place.device)) % self.size
        self.vectors[places] = self._rows(features).to(self.vectors.dtype)
        self.labels[places], self.modality[places] = self._labels(features), features.modality
        self.place.add_(len(features)).remainder_(self.size)

    @staticmethod
    def _rows(features: Features) -> Tensor:
        return F.normalize(at_least_float32(features.vector), dim=1)

    def _labels(self, features: Features) -> Tensor:
        if self.positives == "category":
            return features.category
        if bool((features.instance < 0).any()):
            raise InputError("the loss cross_batch has instances as positives, and some images here have none: use a dataset of pairs")
        return features.instance
