"""Cycle consistency of CycleGAN: an inverse generator from photos to sketches."""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import PHOTO, SKETCH, AdversarialLoss, Step
from sbirlib_acnet.image_pool import ImagePool
from sbirlib_acnet.networks import Generator, PatchDiscriminator, Start, at_full_precision
from sbirlib_acnet.patch_adversary import least_squares
from sbirlib_acnet.photo_identity import absolute_difference


class Cycle(AdversarialLoss):
    """Cycle consistency with an inverse generator F, and a second discriminator D for its sketches (Zhu et al. 2017).

        cycle               E_s |F(G(s)) - s|_1 + E_p |G(F(p)) - p|_1        in the units of [-1, 1], means over pixels (eq. 2)
        sketch_adversary    E_p (D(F(p)) - 1)^2                              and in D's turn (E_s (D(s) - 1)^2 + E_p D(F(p))^2) / 2
        sketch_identity     E_s |F(s) - s|_1                                 as `photo_identity` is of G (section 5.2)

    With `patch_adversary` and `photo_identity` this is the vanilla CycleGAN of two-stage training (ACNet, section 4.3). Terms of sketches, or of
    photos, are zero without any. Needs "synthesised" and "translator", which the encoder `synthesis` provides.

    Args:
        channels: filters of the first convolution of F and D
        blocks: residual blocks of F
        start: initial values of their convolutions: PyTorch's own, or N(0, 0.02), as in CycleGAN
        pool: earlier sketches of F among which half of those in D's turn are, as in CycleGAN; 0 takes the newest alone
    """

    needs = frozenset({"synthesised", "translator", "images"})

    def __init__(
        self,
        *,
        channels: Annotated[int, Ge(1)] = 8,
        blocks: Annotated[int, Ge(0)] = 8,
        start: Start = "default",
        pool: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.inverse = Generator(channels=channels, blocks=blocks, start=start)
        self.discriminator = PatchDiscriminator(channels=channels, start=start)
        self.pool: nn.Module = ImagePool(pool) if pool else nn.Identity()

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The three terms for sketches and photos of the batch [B, 3, H, W], each a scalar []."""
        sketch, photo = step.batch.modality == SKETCH, step.batch.modality == PHOTO
        sketches, photos = step.batch.images[sketch], step.batch.images[photo]
        redrawn = at_full_precision(self.inverse, step.local.images["synthesised"][sketch])
        sketched = at_full_precision(self.inverse, photos)
        again = at_full_precision(step.local.extra["translator"], sketched)
        return {
            "cycle": step.mean(absolute_difference(redrawn, sketches)) + step.mean(absolute_difference(again, photos)),
            "sketch_adversary": step.mean(least_squares(at_full_precision(self.discriminator, sketched), 1.0)),
            "sketch_identity": step.mean(absolute_difference(at_full_precision(self.inverse, sketches), sketches)),
        }

    def discriminator_loss(self, step: Step) -> Tensor:
        """D's loss on the batch's sketches and on those of F, [B, 3, H, W]: a scalar []."""
        sketch, photo = step.batch.modality == SKETCH, step.batch.modality == PHOTO
        sketched = at_full_precision(self.inverse, step.batch.images[photo]).detach()
        fake, real = (at_full_precision(self.discriminator, images) for images in (self.pool(sketched), step.batch.images[sketch]))
        return (step.mean(least_squares(real, 1.0)) + step.mean(least_squares(fake, 0.0))) / 2
