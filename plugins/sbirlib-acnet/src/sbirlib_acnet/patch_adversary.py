"""The opponent of synthesis: is this patch of a photo, or of what was made of a sketch?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, AdversarialLoss, Step
from sbirlib_acnet.networks import PatchDiscriminator, at_full_precision


class PatchAdversary(AdversarialLoss):
    """A patch discriminator D of photos p and synthesised photos G(s) (ACNet, eq. 1, table 5).

        "lsgan"   D's turn: (E (D(p) - 1)^2 + E D(G(s))^2) / 2               G's turn: E (D(G(s)) - 1)^2      (as released)
        "bce"     D's turn: -(E log D(p) + E log(1 - D(G(s)))) / 2           G's turn: -E log D(G(s))         (eq. 1, non-saturating)

    Means over patches and images; without sketches, or photos, that part is zero. Logs D's accuracy as `patch_accuracy`. Needs
    "synthesised", which the encoder `synthesis` provides. Raises InputError for images under 32 pixels.

    >>> PatchAdversary(kind="bce").kind
    'bce'
    """

    needs = frozenset({"synthesised"})

    def __init__(self, *, kind: str = "lsgan", channels: int = 8) -> None:
        super().__init__()
        if kind not in KINDS:
            raise InputError(f"kind is one of {', '.join(KINDS)}, got {kind!r}")
        self.kind, self.discriminator = kind, PatchDiscriminator(channels=channels)

    def forward(self, step: Step) -> Tensor:
        made = at_full_precision(self.discriminator, step.local.images["synthesised"][step.batch.modality == SKETCH])
        with torch.no_grad():
            real = at_full_precision(self.discriminator, step.batch.images[step.batch.modality == PHOTO])
            right = torch.cat([(made <= middle(self.kind)).flatten(), (real > middle(self.kind)).flatten()])
        step.log("patch_accuracy", right.float().mean() if right.numel() else right.new_zeros((), dtype=torch.float32))
        return step.mean(KINDS[self.kind](made, 1.0))

    def discriminator_loss(self, step: Step) -> Tensor:
        made = at_full_precision(self.discriminator, step.local.images["synthesised"].detach()[step.batch.modality == SKETCH])
        real = at_full_precision(self.discriminator, step.batch.images[step.batch.modality == PHOTO])
        return (step.mean(KINDS[self.kind](real, 1.0)) + step.mean(KINDS[self.kind](made, 0.0))) / 2


def least_squares(logits: Tensor, wanted: float) -> Tensor:
    """(D - wanted)^2 for each patch (Mao et al. 2017)."""
    return (logits - wanted).square()


def log_loss(logits: Tensor, wanted: float) -> Tensor:
    """-log D, or -log(1 - D), for each patch with D = sigmoid(logits) (ACNet, eq. 1)."""
    return F.softplus(-logits if wanted else logits)


KINDS = {"lsgan": least_squares, "bce": log_loss}


def middle(kind: str) -> float:
    """The value of D above which it takes a patch for real."""
    return 0.5 if kind == "lsgan" else 0.0
