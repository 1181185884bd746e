"""JPEG decoding by simplejpeg where it is installed, with the pixels that Pillow gives."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

COLOURS = {"RGB": "RGB", "L": "GRAY"}
ORIENTATION = 0x0112  # the EXIF tag


def fast_pixels(image: Image.Image) -> Image.Image | None:
    """The pixels of an open JPEG file, decoded by simplejpeg; None where it is not installed, or Pillow must judge.

    Pillow decodes all but upright images in RGB or grey, and every file of which libjpeg complains.
    """
    if image.format != "JPEG" or image.mode not in COLOURS or not fast_decoder():
        return None
    if image.getexif().get(ORIENTATION, 1) != 1:
        return None
    file: Any = image.fp  # type: ignore[attr-defined]
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    try:
        pixels = simplejpeg.decode_jpeg(content, colorspace=COLOURS[image.mode])
    except ValueError:
        return None
    decoded = Image.fromarray(pixels if image.mode == "RGB" else pixels[..., 0])
    return decoded if decoded.size == image.size else None


def draft(image: Image.Image, side: int) -> None:
    """Let libjpeg scale an open JPEG file by 1/2, 1/4 or 1/8 while it decodes, so that the shorter side keeps at least `side` pixels."""
    if image.format == "JPEG":
        shorter = min(image.size)
        image.draft(None, tuple(length * side // shorter for length in image.size))  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def fast_decoder() -> bool:
    """Whether simplejpeg is used: it is installed, and decodes trial images of every subsampling, and a grey one, to Pillow's own pixels."""
    if simplejpeg is None:
        return False
    noise = np.random.default_rng(0).integers(0, 256, (37, 43, 3), dtype=np.uint8)
    for mode in COLOURS:
        for subsampling in (0, 1, 2):
            file = io.BytesIO()
            Image.fromarray(noise).convert(mode).save(file, "JPEG", quality=85, subsampling=subsampling)
            pixels = simplejpeg.decode_jpeg(file.getvalue(), colorspace=COLOURS[mode])
            if not np.array_equal(np.squeeze(pixels), np.asarray(Image.open(file))):
                return False
    return True
