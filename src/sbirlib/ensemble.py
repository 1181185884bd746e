"""Ensemble of classifiers: a mixture of their probabilities, with weights fitted on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.pipeline import Pipeline
from sbirlib.retrieval.evaluators import Classification


@dataclass(frozen=True)
class Ensemble:
    """p(c | s) = sum_m w_m p_m(c | s) of M trained pipelines with `weights` [M], which sum to one.

    For the landmark-aware network (Zhang et al. 2019, table II) the pipelines differ in their number of landmarks. All must have been
    trained on the same categories, with a classifier; InputError if not.

    >>> data = folder("my-data", split="classification")
    >>> Ensemble.fit(classifiers, data).evaluate(data)
    {'accuracy': ..., 'class_accuracy': ..., 'class_AP': ...}
    """

    pipelines: Sequence[Pipeline]
    weights: Tensor

    def __post_init__(self) -> None:
        if not self.pipelines or len(self.pipelines) != len(self.weights):
            raise InputError(f"an ensemble needs pipelines and a weight for each, got {len(self.pipelines)} and {len(self.weights)}")
        if any(pipeline.categories != self.pipelines[0].categories for pipeline in self.pipelines):
            raise InputError("the pipelines of an ensemble name different categories: train all on the same split of one dataset")

    @classmethod
    def fit(cls, pipelines: Sequence[Pipeline], dataset: Dataset, *, split: str = "validation", device: str | None = None) -> Self:
        """The ensemble with the weights of highest likelihood on one split of the dataset, which must not be the one to evaluate on."""
        equal = cls(pipelines, torch.full((len(pipelines),), 1 / max(len(pipelines), 1), dtype=torch.float64))
        probabilities, category = equal._probabilities(dataset, split, device)
        return replace(equal, weights=mixture_weights(probabilities, category))

    def evaluate(self, dataset: Dataset, *, split: str = "test", device: str | None = None) -> dict[str, float]:
        """The metrics of the evaluator `classification` for the mixture."""
        return Classification().evaluate(*self.encode(dataset, split=split, device=device))

    def encode(self, dataset: Dataset, *, split: str = "test", device: str | None = None) -> tuple[Encoded, Encoded]:
        """The sketches of a split with the mixture's log probabilities as `logits` [Q, C], and an empty gallery."""
        probabilities, category = self._probabilities(dataset, split, device)
        mixed = torch.einsum("m,mqc->qc", self.weights, probabilities)
        blank = torch.zeros(len(category), 1, 1)
        queries = Encoded(blank, torch.zeros_like(category), category, torch.full_like(category, -1), logits=mixed.log())
        return queries, queries[:0]

    def _probabilities(self, dataset: Dataset, split: str, device: str | None) -> tuple[Tensor, Tensor]:
        """The class probabilities [M, Q, C] of each pipeline for the sketches of a split, and their categories [Q]."""
        encoded = [pipeline.encode(dataset, split=split, device=device)[0] for pipeline in self.pipelines]
        if any(queries.logits is None for queries in encoded):
            raise InputError("an ensemble is of classifiers: give each recipe the evaluator classification, as the recipe landmarks has it")
        logits = torch.stack([queries.logits for queries in encoded if queries.logits is not None])
        return logits.double().softmax(2), encoded[0].category


def mixture_weights(probabilities: Tensor, category: Tensor, *, tolerance: float = 1e-9) -> Tensor:
    """The mixture weights [M] that maximise the likelihood of `category` [Q] under probabilities [M, Q, C], by expectation maximisation.

    w_m <- mean over q of w_m p_m(y_q) / sum_k w_k p_k(y_q), from equal weights, until the mean log likelihood rises by less than `tolerance`
    """
    right = probabilities[:, torch.arange(len(category)), category].clamp(min=torch.finfo(probabilities.dtype).tiny)
    weights = torch.full((len(right),), 1 / len(right), dtype=right.dtype)
    before = -torch.inf
    while True:
        shares = weights[:, None] * right
        likelihood = float(shares.sum(0).log().mean())
        if not likelihood > before + tolerance:
            return weights
        before, weights = likelihood, (shares / shares.sum(0)).mean(1)
