"""Modality gap and category discrepancy of embeddings (Huang et al. 2022, table 2)."""

import torch
from torch import Tensor

from sbirlib.plugin_api import Encoded, Evaluator, InputError


class ModalityGap(Evaluator):
    """Mean cosines within and between classes, of the same modality and across, and their differences (Huang et al. 2022, section 4.4, table 2).

        within_same, within_cross, between_same, between_cross      mean cosine of all such pairs of a class, then the mean over classes
        modality_gap        within_same - within_cross              .527 - .268 = .259 for the paper's baseline
        discrepancy_same    within_same - between_same
        discrepancy_cross   within_cross - between_cross

    An image and itself are no pair; a class with fewer than two images of one modality is left out of the means that need them. Needs
    categories and an encoder that searches by cosine: one vector a query, of unit length. Computed from the sums of the classes'
    vectors, so the pairs themselves are never made.

    >>> ModalityGap().evaluate(sketches, photos)["modality_gap"]
    0.0...
    """

    needs = frozenset({"cosines"})

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        vectors = torch.cat([queries.vectors.flatten(0, 1), gallery.vectors]).double()
        lengths = vectors.norm(dim=1)
        if queries.vectors.shape[1] != 1 or bool((lengths - 1).abs().max() > 1e-3):
            raise InputError(
                "modality_gap compares cosines, and this encoder's vectors are not of unit length, one a query: leave it out of the evaluators"
            )
        modality, category = (torch.cat([getattr(side, name) for side in (queries, gallery)]) for name in ("modality", "category"))
        modalities = [m for m in (0, 1) if bool((modality == m).any())]
        classes = sorted({c for c in category.tolist() if c >= 0})
        sums = {m: torch.stack([vectors[(modality == m) & (category == c)].sum(0) for c in classes]) for m in modalities}
        counts = {m: torch.tensor([int(((modality == m) & (category == c)).sum()) for c in classes]).double() for m in modalities}
        means = {
            "within_same": _mean([_own_pairs(sums[m], counts[m]) for m in modalities]),
            "within_cross": _mean([((sums[0] * sums[1]).sum(1), counts[0] * counts[1])] if len(modalities) == 2 else []),
            "between_same": _mean([_other_pairs(sums[m], sums[m], counts[m], counts[m]) for m in modalities]),
            "between_cross": _mean(
                [_other_pairs(sums[m], sums[1 - m], counts[m], counts[1 - m]) for m in modalities] if len(modalities) == 2 else []
            ),
        }
        return means | {
            "modality_gap": means["within_same"] - means["within_cross"],
            "discrepancy_same": means["within_same"] - means["between_same"],
            "discrepancy_cross": means["within_cross"] - means["between_cross"],
        }


Pairs = tuple[Tensor, Tensor]


def _own_pairs(sums: Tensor, counts: Tensor) -> Pairs:
    """Sum of cosines and number of each class's pairs of one modality, [C] each, from sums [C, V] and counts [C]: |sum x|^2 less n."""
    return sums.square().sum(1) - counts, counts * (counts - 1)


def _other_pairs(sums: Tensor, others: Tensor, counts: Tensor, other_counts: Tensor) -> Pairs:
    """Sum of cosines and number of each class's pairs with all other classes, [C] each."""
    return (sums * (others.sum(0) - others)).sum(1), counts * (other_counts.sum() - other_counts)


def _mean(pairs: list[Pairs]) -> float:
    """Mean cosine of each class's pairs, then over the classes with pairs; 0 without any."""
    if not pairs:
        return 0.0
    total, number = (torch.stack(values).sum(0) for values in zip(*pairs, strict=True))
    some = number > 0
    return float((total[some] / number[some]).mean().clamp(-1, 1)) if bool(some.any()) else 0.0
