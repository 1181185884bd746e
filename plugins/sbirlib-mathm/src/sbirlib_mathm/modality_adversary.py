"""GAN baseline: a modality discriminator on the embedding, and an encoder trained against it."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import PHOTO, SKETCH, AdversarialLoss, Features, Step, at_least_float32


class ModalityAdversary(AdversarialLoss):
    """A linear discriminator D of photos (1) and sketches (0) on the embedding [N, D] (Huang et al. 2022, appendix A.1).

        discriminator's turn:  -E_photo log D(f) - E_sketch log(1 - D(f))        (eq. 14, which it maximises)
        encoder's turn:        -E_photo log(1 - D(f)) - E_sketch log D(f)        (eq. 15, likewise: non-saturating)

    The two turns alternate at every step. A modality without rows gives zero. Logs the discriminator's accuracy as `modality_accuracy`.

    Args:
        dim: width D of the embedding, which training fills in

    >>> ModalityAdversary(dim=512).discriminator
    Linear(in_features=512, out_features=1, bias=True)
    """

    discriminator: nn.Linear

    def __init__(self, *, dim: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.discriminator = nn.Linear(dim, 1)

    def photo_logits(self, features: Features) -> Tensor:
        """Logits of each row [N], positive for a photo; this is no `Classifier` of categories."""
        embedding = at_least_float32(features.embedding)
        weight, bias = (value.to(embedding.dtype) for value in (self.discriminator.weight, self.discriminator.bias))
        with torch.autocast(embedding.device.type, enabled=False):
            return F.linear(embedding, weight, bias).squeeze(1)

    def forward(self, step: Step) -> Tensor:
        """The encoder's loss, mean over rows [N, D] of each modality: a scalar []."""
        logits, photo = self.photo_logits(step.features), step.features.modality == PHOTO
        step.log("modality_accuracy", ((logits > 0) == photo).double().mean() if len(photo) else logits.new_zeros(()))
        return discrimination(-logits, step.features.modality)

    def discriminator_loss(self, step: Step) -> Tensor:
        """The discriminator's loss, mean over rows [N, D] of each modality: a scalar []."""
        return discrimination(self.photo_logits(step.features), step.features.modality)


def discrimination(logits: Tensor, modality: Tensor) -> Tensor:
    """-E_photo log D - E_sketch log(1 - D) with D = sigmoid(logits) [N] (Huang et al. 2022, eq. 14); on -logits it is eq. 15's."""
    loss = logits.sum() * 0
    for side, sign in ((PHOTO, -1), (SKETCH, 1)):
        own = logits[modality == side]
        loss = loss + F.softplus(sign * own).sum() / max(len(own), 1)
    return loss
