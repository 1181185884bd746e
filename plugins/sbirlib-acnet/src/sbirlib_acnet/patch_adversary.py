"""Patch discriminator of photos and synthesised photos."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import PHOTO, SKETCH, AdversarialLoss, Step
from sbirlib_acnet.image_pool import ImagePool
from sbirlib_acnet.networks import PatchDiscriminator, Start, at_full_precision


class PatchAdversary(AdversarialLoss):
    """A patch discriminator D of photos p and synthesised photos G(s) (ACNet, eq. 1, table 5).

        "lsgan"   D's turn: (E (D(p) - 1)^2 + E D(G(s))^2) / 2               G's turn: E (D(G(s)) - 1)^2      (as released)
        "bce"     D's turn: -(E log D(p) + E log(1 - D(G(s)))) / 2           G's turn: -E log D(G(s))         (eq. 1, non-saturating)

    Means over patches and images; terms of sketches, or of photos, are zero without any. Logs D's accuracy as `patch_accuracy`. Needs
    "synthesised", which the encoder `synthesis` provides. Raises InputError for images under 32 pixels.

    Args:
        kind: least squares, as released, or binary cross entropy, as printed
        channels: filters of D's first convolution
        start: initial values of D's convolutions: PyTorch's own, as released, or N(0, 0.02), as in CycleGAN
        pool: earlier synthesised photos among which half of those in D's turn are, as in CycleGAN; 0 takes the newest alone

    >>> PatchAdversary(kind="bce").kind
    'bce'
    """

    needs = frozenset({"synthesised", "images"})

    def __init__(
        self,
        *,
        kind: Literal["lsgan", "bce"] = "lsgan",
        channels: Annotated[int, Ge(1)] = 8,
        start: Start = "default",
        pool: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.kind, self.discriminator = kind, PatchDiscriminator(channels=channels, start=start)
        self.pool: nn.Module = ImagePool(pool) if pool else nn.Identity()

    def forward(self, step: Step) -> Tensor:
        """G's loss, the mean over patches of synthesised photos [B, 3, H, W]: a scalar []."""
        fake = at_full_precision(self.discriminator, step.local.images["synthesised"][step.batch.modality == SKETCH])
        with torch.no_grad():
            real = at_full_precision(self.discriminator, step.batch.images[step.batch.modality == PHOTO])
            right = torch.cat([(fake <= middle(self.kind)).flatten(), (real > middle(self.kind)).flatten()])
        step.log("patch_accuracy", right.float().mean() if right.numel() else right.new_zeros((), dtype=torch.float32))
        return step.mean(KINDS[self.kind](fake, 1.0))

    def discriminator_loss(self, step: Step) -> Tensor:
        """D's loss on photos and synthesised photos [B, 3, H, W]: a scalar []."""
        synthesised = step.local.images["synthesised"].detach()[step.batch.modality == SKETCH]
        fake = at_full_precision(self.discriminator, self.pool(synthesised))
        real = at_full_precision(self.discriminator, step.batch.images[step.batch.modality == PHOTO])
        return (step.mean(KINDS[self.kind](real, 1.0)) + step.mean(KINDS[self.kind](fake, 0.0))) / 2


def least_squares(logits: Tensor, target: float) -> Tensor:
    """(D - target)^2 of logits [B, 1, h, w], for each patch (Mao et al. 2017)."""
    return (logits - target).square()


def log_loss(logits: Tensor, target: float) -> Tensor:
    """-log D, or -log(1 - D) for the target 0, for each patch, D = sigmoid(logits [B, 1, h, w]) (ACNet, eq. 1)."""
    return F.softplus(-logits if target else logits)


KINDS = {"lsgan": least_squares, "bce": log_loss}


def middle(kind: str) -> float:
    """Output of D above which a patch counts as a photo's."""
    return 0.5 if kind == "lsgan" else 0.0
