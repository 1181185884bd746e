"""World "traits": the traits of an instance that a sketch shows faithfully depend on its manner, which is visible in its style."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops

from sbirlib.data.synthetic.grammar import Figure
from sbirlib.data.synthetic.outline import POINTS, FloatArray
from sbirlib.data.synthetic.renderer import instance_values
from sbirlib.data.synthetic.worlds.bodies import body_figure
from sbirlib.data.synthetic.worlds.flat import draw_contours, flat_photo, mask, stripes, two_tone
from sbirlib.data.synthetic.worlds.world import WORLD, World

TRAITS = ("aspect", "bend", "taper", "angle of the ribs", "pitch of the ribs", "size of the hole")
MANNERS = ("contours", "shading")
FAITHFUL = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=np.bool_)  # by manner and trait
INEXACT = 0.1  # standard deviation of a trait as it is drawn, at abstraction 1
_TURN = np.arange(POINTS) * 2 * np.pi / POINTS
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)  # of radius 1


@dataclass(frozen=True)
class Traits(World):
    """Reader of the world "traits" (for visual trait descriptors, Pang et al. 2019).

    An instance is a body with ribs and a hole, and six values in [-1, 1], its traits: `TRAITS`. A photo shows them all. A sketch has one of two
    manners: "contours", thin lines, is faithful to aspect, bend and taper and has any ribs and hole; "shading", dark with white ribs, is faithful to
    ribs and hole and has any aspect, bend and taper. Manners are independent of category and instance. With `solution` a sketch is faithful to all.
    """

    def traits(self, i: int) -> FloatArray:
        """The traits of the instance of item i, [6] in [-1, 1]."""
        category, k = divmod(self.instance(i), self.instances)
        values: FloatArray = instance_values(self.seed, category, len(TRAITS), self.instances)[k]
        return values

    def manner(self, i: int) -> int:
        """The manner of sketch i."""
        return int(self._stream(i, WORLD).integers(len(MANNERS)))

    def shown(self, i: int) -> FloatArray:
        """The traits that image i shows, [6]."""
        if i < self.photos:
            return self.traits(i)
        rng = self._stream(i, WORLD)
        faithful = FAITHFUL[rng.integers(len(MANNERS))] | self.solution
        values = np.where(faithful, self.traits(i), rng.uniform(-1, 1, len(TRAITS)))
        return values + rng.normal(0, INEXACT * self.abstraction(i), len(TRAITS))

    def figure(self, i: int) -> Figure:
        """The body of item i with its hole, as it is shown."""
        return formed(self.central(self.instance(i) // self.instances), self.shown(i))

    def central(self, category: int) -> Figure:
        """The body of a category."""
        return body_figure(self.seed, self.categories, category)

    def _photo(self, i: int, rng: Generator) -> Image.Image:
        tones, ribs = spaced_tones(rng, 3), self._ribs(i, rng, share=0.5)
        ground = two_tone(ribs, tones[[2, 2]])
        return flat_photo(self.posed(self.figure(i), rng), two_tone(ribs, tones[:2]), ground, self._others(i, rng), rng)

    def _sketch(self, i: int, rng: Generator) -> Image.Image:
        standing, side = self.posed(self.figure(i), rng), 2 * self.size
        sheet = Image.new("L", (side, side), 255)
        ribs = self._ribs(i, rng, share=0.65 if MANNERS[self.manner(i)] == "shading" else 0.2)
        sheet.paste(0, mask=ImageChops.multiply(mask(standing, side), ribs))
        draw_contours(sheet, standing.outlines, ink=0, width=max(2, round(side / 48)))
        return sheet.reduce(2)

    def _ribs(self, i: int, rng: Generator, *, share: float) -> Image.Image:
        _, _, _, angle, pitch, _ = self.shown(i)
        return stripes(2 * self.size, angle=0.45 * np.pi * angle, pitch=2 ** (0.9 * pitch) / 8, phase=rng.uniform(), share=share)


def formed(body: Figure, traits: FloatArray) -> Figure:
    """A body of unit size with the traits [6] of its outline, and its hole."""
    aspect, bend, taper, _, _, hole = traits
    x, y = np.moveaxis(body.outlines[0], -1, 0)
    x = x * (1 + 1.4 * taper * y) + 0.6 * bend * (4 * y**2 - 0.5)
    points = np.stack([x * np.exp(aspect / 2), y * np.exp(-aspect / 2)], axis=1)
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) / (high - low).max()
    circle = (0.12 + 0.09 * hole) * _CIRCLE + points.mean(0)
    return Figure(np.stack([points, circle]), np.array([0, 1]), np.array([False, True]))


def spaced_tones(rng: Generator, count: int) -> FloatArray:
    """Tones [count, 3], 0 to 255, whose lightness is evenly spaced from a random start, and then starts anew from black."""
    grey = (rng.uniform() + (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / count) % 1
    tint = rng.uniform(-40, 40, (count, 3))
    tones: FloatArray = 255 * grey[:, None] + tint - tint.mean(1, keepdims=True)
    return tones
