"""The GAN baseline: an opponent that reads the modality from the embedding, and an encoder that hides it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.distance import at_least_float32
from sbirlib.interfaces import PHOTO, SKETCH, AdversarialLoss, Features, Step


class ModalityAdversary(AdversarialLoss):
    """A linear discriminator D of photos (1) and sketches (0) on the embedding [N, D] (Huang et al. 2022, appendix A.1).

        discriminator's turn:  -E_photo log D(f) - E_sketch log(1 - D(f))        (eq. 14, which it maximises)
        encoder's turn:        -E_photo log(1 - D(f)) - E_sketch log D(f)        (eq. 15, likewise: non-saturating)

    The two turns alternate at every step. A modality without rows gives zero. Logs the discriminator's accuracy as
    `modality_accuracy`. `dim` is D, which the pipeline fills in.

    >>> ModalityAdversary(dim=512).discriminator
    Linear(in_features=512, out_features=1, bias=True)
    """

    discriminator: nn.Linear

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.discriminator = nn.Linear(dim, 1)

    def photo_logits(self, features: Features) -> Tensor:
        """[N], positive for a photo; not named `logits`, for it classifies no categories."""
        embedding = at_least_float32(features.embedding)
        weight, bias = (value.to(embedding.dtype) for value in (self.discriminator.weight, self.discriminator.bias))
        with torch.autocast(embedding.device.type, enabled=False):
            return F.linear(embedding, weight, bias).squeeze(1)

    def forward(self, step: Step) -> Tensor:
        logits, photo = self.photo_logits(step.features), step.features.modality == PHOTO
        step.log("modality_accuracy", ((logits > 0) == photo).double().mean() if len(photo) else logits.new_zeros(()))
        return told_apart(-logits, step.features.modality)

    def discriminator_loss(self, step: Step) -> Tensor:
        return told_apart(self.photo_logits(step.features), step.features.modality)


def told_apart(logits: Tensor, modality: Tensor) -> Tensor:
    """-E_photo log D - E_sketch log(1 - D) with D = sigmoid(logits) [N] (Huang et al. 2022, eq. 14); on -logits it is eq. 15's."""
    loss = logits.sum() * 0
    for side, sign in ((PHOTO, -1), (SKETCH, 1)):
        own = logits[modality == side]
        loss = loss + F.softplus(sign * own).sum() / max(len(own), 1)
    return loss
