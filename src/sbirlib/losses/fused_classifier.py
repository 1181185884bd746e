"""Several classifiers as one, at test."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sbirlib.interfaces import Classifier, Features, Loss
from sbirlib.phase import Phase


class FusedClassifier(Classifier):
    """The mean log probability of several `classifiers` of the same C categories.

        logit_c = mean over m of log softmax(logits_m)_c

    Categories of a row rank as by the sum of all logits; the mean leaves probabilities as sharp as those of one classifier.
    """

    def __init__(self, classifiers: Sequence[Classifier]) -> None:
        super().__init__()
        self.classifiers = nn.ModuleList(classifiers)

    def logits(self, features: Features) -> Tensor:
        """Logits of each row [N, C]."""
        return torch.stack([classifier.logits(features).log_softmax(1) for classifier in self.classifiers]).mean(0)  # type: ignore[operator]


def classifier_of(losses: Mapping[str, Loss], phases: Sequence[Phase]) -> Classifier | None:
    """The classifiers among `losses`, by name, that predict and that some phase trains, as one; none where there is none."""
    classifiers = [
        loss
        for name, loss in losses.items()
        if isinstance(loss, Classifier) and loss.predicts and any(phase.trains(name) for phase in phases)
    ]
    if len(classifiers) > 1:
        return FusedClassifier(classifiers)
    return classifiers[0] if classifiers else None
