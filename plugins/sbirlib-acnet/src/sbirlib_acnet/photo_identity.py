"""Identity loss of the generator on photos."""

from torch import Tensor

from sbirlib.plugin_api import PHOTO, Loss, Step


class PhotoIdentity(Loss):
    """L_ide = E_p |G(p) - p|_1 on images in [-1, 1], the mean over pixels (ACNet, eq. 2). Zero without photos.

    Needs "identity", which the encoder `synthesis` provides while its `photos` is true.
    """

    needs = frozenset({"identity", "images"})

    def forward(self, step: Step) -> Tensor:
        """Mean over pixels of the photos and of G(p) [B, 3, H, W]: a scalar []."""
        photo = step.batch.modality == PHOTO
        return step.mean(absolute_difference(step.local.images["identity"][photo], step.batch.images[photo]))


def absolute_difference(outputs: Tensor, targets: Tensor) -> Tensor:
    """|output - target| [B, 3, H, W] of images in [0, 1], in the units of [-1, 1]."""
    return 2 * (outputs - targets.to(outputs.dtype)).abs()
