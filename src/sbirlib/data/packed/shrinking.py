"""Images as they are packed: shrunk, and encoded without loss, or photos as JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageChops

from sbirlib.data.images import plain
from sbirlib.data.packed.layout import FORMS
from sbirlib.data.transforms import alpha_ink
from sbirlib.interfaces import SKETCH


class Encoded(NamedTuple):
    """One image of a packed file: its form (a position in FORMS), width, height and bytes."""

    form: int
    width: int
    height: int
    content: bytes


@dataclass(frozen=True)
class Shrinking:
    """Images with at most `size` pixels on their shorter side; with `jpeg`, a quality, photos are JPEG and all others PNG."""

    size: int
    jpeg: int | None

    def __call__(self, image: Image.Image, modality: int) -> Encoded:
        """The image as it is packed."""
        image = plain(image)
        if modality == SKETCH:
            image = grey(image)
        image = shrunk(image, modality, self.size)
        if self.jpeg is None:
            return Encoded(FORMS.index(image.mode), *image.size, image.tobytes())
        file, form = io.BytesIO(), "JPEG" if modality != SKETCH and image.mode in ("L", "RGB") else "PNG"
        pixels = Image.frombytes(image.mode, image.size, image.tobytes())  # without the profile and comments of its file
        pixels.save(file, form, **({"quality": self.jpeg} if form == "JPEG" else {}))
        return Encoded(FORMS.index(form), *image.size, file.getvalue())


def shrunk(image: Image.Image, modality: int, size: int) -> Image.Image:
    """The image, of its own aspect, with at most `size` pixels on its shorter side.

    A sketch in the alpha channel is shrunk there, and is black: its colour carries nothing, and could not be told from that of transparent
    pixels afterwards.
    """
    shorter = min(image.size)
    if shorter <= size:
        return image
    width, height = (max(1, round(length * size / shorter)) for length in image.size)
    if modality == SKETCH and alpha_ink(image) is not None:
        alpha = image.getchannel("A").resize((width, height), Image.Resampling.BILINEAR)
        return Image.merge("LA", (Image.new("L", alpha.size, 0), alpha))
    return image.resize((width, height), Image.Resampling.BILINEAR)


def grey(image: Image.Image) -> Image.Image:
    """The image with one channel for three where these are equal; alpha stays."""
    if image.mode not in ("RGB", "RGBA"):
        return image
    red, green, blue = image.split()[:3]
    if any(ImageChops.difference(red, other).getbbox() for other in (green, blue)):
        return image
    return red if image.mode == "RGB" else Image.merge("LA", (red, image.getchannel("A")))
