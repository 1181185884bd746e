"""Flat rendering: figures without light and shadow, filled with two tones, such as stripes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from sbirlib.data.synthetic.frame import fitted, paint
from sbirlib.data.synthetic.grammar import Figure
from sbirlib.data.synthetic.outline import FloatArray

SMALL = 0.05  # of the frame, by the bounding box of a distractor
NOISE = 6.0  # standard deviation of the sensor noise, in grey levels


def mask(figure: Figure, side: int) -> Image.Image:
    """The filled figure, 255 inside and 0 in its holes and outside, mode L."""
    labels = Image.new("L", (side, side))
    paint(ImageDraw.Draw(labels), figure, side, 1)
    return labels.point([0] + [255] * 255)


def stripes(side: int, *, angle: float, pitch: float, phase: float = 0.0, share: float = 0.5) -> Image.Image:
    """Stripes, 255 on the share `share` of each period of `pitch` sides and 0 between, mode L; `angle` is that of their normal."""
    at = np.arange(side) / (side * pitch)
    along = at * np.cos(angle) + at[:, None] * np.sin(angle) + phase
    return Image.fromarray(np.where(along % 1 < share, 255, 0).astype(np.uint8))


def draw_contours(sheet: Image.Image, outlines: FloatArray, *, ink: int, width: int) -> None:
    """Draw closed outlines [K, P, 2] in the frame [0, 1]^2 on a sheet of mode L."""
    draw = ImageDraw.Draw(sheet)
    for points in outlines:
        draw.line((np.concatenate([points, points[:1]]) * sheet.width).ravel().tolist(), fill=ink, width=width, joint="curve")


def two_tone(pattern: Image.Image, tones: FloatArray) -> Image.Image:
    """An RGB image of the first of two tones [2, 3] where a pattern of mode L is 255, and of the second elsewhere."""
    one, two = (Image.new("RGB", pattern.size, tuple(tone.astype(int).tolist())) for tone in tones.clip(0, 255))
    return Image.composite(one, two, pattern)


def flat_photo(figure: Figure, inside: Image.Image, ground: Image.Image, others: Sequence[Figure], rng: Generator) -> Image.Image:
    """Photo of a placed figure filled with one image on another, each of twice its size; `others` stand small on the ground in one tone."""
    for other in others:
        tone = Image.new("RGB", ground.size, tuple(rng.integers(0, 256, 3).tolist()))
        small = fitted(other, rng, cover=SMALL)
        small = replace(small, outlines=small.outlines + rng.uniform(0, 1, 2) - small.outlines.mean((0, 1)))
        ground.paste(tone, mask=mask(small, ground.width))
    ground.paste(inside, mask=mask(figure, ground.width))
    picture = np.asarray(ground.reduce(2), dtype=np.float64)
    return Image.fromarray((picture + rng.normal(0, NOISE, picture.shape)).clip(0, 255).astype(np.uint8))
