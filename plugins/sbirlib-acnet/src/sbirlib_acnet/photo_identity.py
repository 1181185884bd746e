"""A generator of photos leaves photos as they are."""

from torch import Tensor

from sbirlib.interfaces import PHOTO, Loss, Step


class PhotoIdentity(Loss):
    """L_ide = E_p |G(p) - p|_1 on images in [-1, 1], the mean over pixels (ACNet, eq. 2). Zero without photos.

    Needs "identity", which the encoder `synthesis` provides while its `photos` is true.
    """

    needs = frozenset({"identity"})

    def forward(self, step: Step) -> Tensor:
        photo = step.batch.modality == PHOTO
        return step.mean(absolute_difference(step.local.images["identity"][photo], step.batch.images[photo]))


def absolute_difference(made: Tensor, wanted: Tensor) -> Tensor:
    """|made - wanted| of images in [0, 1], in the units of [-1, 1], for each pixel and channel."""
    return 2 * (made - wanted.to(made.dtype)).abs()
