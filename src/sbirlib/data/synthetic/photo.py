"""Rendering of photos: a figure in colour, light and shadow, in front of a background with distractors, all but the figure from the style stream."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sbirlib.data.synthetic.frame import fitted, paint, turned
from sbirlib.data.synthetic.grammar import Figure

COVER = (0.25, 0.7)  # of the frame, by the figure's bounding box
TURN = 30.0  # degrees
SQUEEZE = 0.8
OCCLUDED = 0.15  # of the figure, at most
Plane = NDArray[np.floating[Any]]  # float32


def photo(figure: Figure, rng: Generator, *, size: int, others: Sequence[Figure], turn: bool) -> Image.Image:
    """Render an RGB photo of the figure, `size` x `size`, with small figures of `others` behind it; drawn at twice the size."""
    standing = turned(figure, rng, degrees=TURN if turn else 0.0, squeeze=SQUEEZE if turn else 1.0)
    standing = fitted(standing, rng, cover=rng.uniform(*COVER))
    side = 2 * size
    labels = Image.new("L", (side, side))
    draw = ImageDraw.Draw(labels)
    scene, first = [], 1
    for other in others:
        small = _distractor(other, rng)
        scene.append(small)
        first = paint(draw, small, side, first)
    last = paint(draw, standing, side, first)
    scene.append(standing)
    _occlude(labels, rng, (first, last))
    return _developed(_shaded(labels, scene, rng), rng)


def _distractor(other: Figure, rng: Generator) -> Figure:
    """A small figure at a random position, where the frame may cut it."""
    small = fitted(turned(other, rng, degrees=TURN, squeeze=SQUEEZE), rng, cover=rng.uniform(0.02, 0.08))
    return replace(small, outlines=small.outlines + rng.uniform(0, 1, 2) - small.outlines.mean((0, 1)))


def _occlude(labels: Image.Image, rng: Generator, of: tuple[int, int]) -> None:
    """Paint an occluder (label 255) over the figure's edge; it shrinks until it hides at most a random share of the figure."""
    share = rng.uniform(-OCCLUDED, OCCLUDED)
    angle, turns = rng.uniform(0, 2 * np.pi), np.arange(12) * (np.pi / 6)
    blob = rng.uniform(0.6, 1.2, (12, 1)) * np.array([np.cos(turns), np.sin(turns)]).T
    if share <= 0:
        return
    pixels = np.asarray(labels)
    figure = (pixels >= of[0]) & (pixels < of[1])
    rows, columns = np.nonzero(figure)
    reach = (columns - columns.mean()) * np.cos(angle) + (rows - rows.mean()) * np.sin(angle)
    edge = int(reach.argmax())
    radius = np.sqrt(share * figure.sum())
    for _ in range(8):
        cover = Image.new("1", labels.size)
        ImageDraw.Draw(cover).polygon((blob * radius + [columns[edge], rows[edge]]).ravel().tolist(), fill=1)
        if np.asarray(cover)[figure].mean() <= share:
            labels.paste(255, mask=cover)
            return
        radius *= 0.8


def _shaded(labels: Image.Image, scene: list[Figure], rng: Generator) -> Plane:
    """The shaded scene [size, size, 3] in 0 to 255: background, cast shadow, and each outline in its figure's palette, lit from one side."""
    size = labels.width // 2
    light = rng.uniform(0, 2 * np.pi)
    ramp = (np.arange(size, dtype=np.float32) + 0.5) / size
    toward: Plane = ramp * np.float32(np.cos(light)) + (ramp * np.float32(np.sin(light)))[:, None]
    ground = rng.uniform(0, 1)
    colours, level, slope = np.zeros((256, 3)), np.ones(256, dtype=np.float32), np.zeros(256, dtype=np.float32)
    first = 1
    for figure in scene:
        of = slice(first, first + len(figure.outlines))
        colours[of] = (_palette(rng, ground, 3)[rng.integers(0, 3, 8)] * rng.uniform(0.85, 1.15, (8, 1)))[figure.primitive]
        slope[of] = rng.uniform(0.3, 1.0) / np.maximum(np.ptp(figure.outlines, axis=1).max(1), 0.1)
        level[of] = 1 + slope[of] * (figure.outlines.mean(1) @ [np.cos(light), np.sin(light)])
        first = of.stop
    colours[255] = _palette(rng, ground, 1)
    covered: Plane = np.asarray(labels.point([0] + [255] * 255).reduce(2), dtype=np.float32) / 255
    nearest = np.asarray(labels)[::2, ::2]
    shade = (level.take(nearest) - slope.take(nearest) * toward) * _texture(rng, size)
    labels.putpalette(colours.clip(0, 255).astype(np.uint8).tobytes())
    picture = _background(rng, size, ground, toward)
    picture *= ((1 - covered) * (1 - rng.uniform(0.1, 0.6) * _shadow(covered, light, rng)))[:, :, None]
    picture += np.asarray(labels.convert("RGB").reduce(2)) * shade[:, :, None]
    return picture


def _background(rng: Generator, size: int, ground: float, toward: Plane) -> Plane:
    """A gradient between two colours with smooth noise, [size, size, 3]."""
    one, two = _palette(rng, (ground + 0.5) % 1, 2)
    cells = int(rng.choice([3, 6, 12, 24]))
    noise = Image.fromarray(rng.integers(0, 255, (cells, cells), dtype=np.uint8)).resize((size, size), Image.Resampling.BILINEAR)
    planes = np.array([np.ones_like(toward), toward, np.asarray(noise, dtype=np.float32) - 127])
    tint = rng.uniform(0, 0.35) * rng.uniform(0.3, 1, 3)
    mix = np.array([one, (two - one) * rng.uniform(0, 0.6), tint], dtype=np.float32)
    picture: Plane = (planes.reshape(3, -1).T @ mix).reshape(size, size, 3)
    return picture


def _palette(rng: Generator, ground: float, count: int) -> Plane:
    """Colours [count, 3] whose lightness differs from that of the background."""
    lightness = 255 * ((ground + rng.uniform(0.3, 0.7, (count, 1))) % 1 * 0.85 + 0.1)
    tint = rng.uniform(-1, 1, (count, 3))
    palette: Plane = (lightness + 60 * (tint - tint.mean(1, keepdims=True))).astype(np.float32)
    return palette


def _shadow(covered: Plane, light: float, rng: Generator) -> Plane:
    """The scene's blurred shadow [size, size] in 0 to 1, cast away from the light."""
    small = Image.fromarray((covered * 255).astype(np.uint8)).reduce(2)
    step = rng.uniform(0.02, 0.08) * small.width
    shifted = small.transform(small.size, Image.Transform.AFFINE, (1, 0, -step * np.cos(light), 0, 1, -step * np.sin(light)))
    blurred = shifted.filter(ImageFilter.BoxBlur(1)).resize(covered.shape, Image.Resampling.BILINEAR)
    return np.asarray(blurred, dtype=np.float32) / 255


def _texture(rng: Generator, size: int) -> Plane:
    """Multiplicative stripes [size, size] around 1."""
    angle, pitch, phase = rng.uniform(0, np.pi), rng.uniform(0.03, 0.2), rng.uniform(0, 2 * np.pi)
    strength = max(rng.uniform(-0.2, 0.2), 0)
    at = np.arange(size, dtype=np.float32) * np.float32(2 * np.pi / pitch / size)
    one, two = at * np.float32(np.cos(angle)) + np.float32(phase), at * np.float32(np.sin(angle))
    wave = np.sin(one)[None, :] * np.cos(two)[:, None] + np.cos(one)[None, :] * np.sin(two)[:, None]  # sin(one + two)
    texture: Plane = 1 + np.float32(strength) * wave
    return texture


def _developed(picture: Plane, rng: Generator) -> Image.Image:
    """Add sensor noise (the sum of two uniform ones) and JPEG artefacts."""
    noise = rng.integers(0, 256, (2, *picture.shape), dtype=np.uint8)
    picture += (noise[0].astype(np.float32) + noise[1] - 255) * np.float32(rng.uniform(0, 0.1))
    buffer = BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=int(rng.integers(40, 96)))
    image = Image.open(buffer)
    image.load()
    return image
