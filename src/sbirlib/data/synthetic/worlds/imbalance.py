"""World "imbalance": within a modality a shortcut tells training categories apart, and across modalities it tells nothing."""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageDraw

from sbirlib.data.synthetic.worlds.flat import flat_photo, two_tone
from sbirlib.data.synthetic.worlds.world import WORLD, World

SHARE = 0.85  # of the training images whose cue is that of their category
CUES = 48
WIDTHS, DASHES, INKS = (1, 2, 3), (0, 1, 2, 4), (0, 60, 110, 150)  # of pens: pixels, steps along the contour (0: unbroken), grey levels
HUES = (8, 6)  # of grounds and of figures


@dataclass(frozen=True)
class Imbalance(World):
    """Reader of the world "imbalance" (for modality-aware triplet hard mining, Huang et al. 2022).

    Every image has a cue: a photo the hues of figure and ground, a sketch its pen (width, dashes, grey). In training categories the cue of 85 % of
    the images is that of their category, one for photos and another for sketches; all other images have any cue. With `solution` every image has
    any cue.
    """

    def cue(self, i: int) -> int:
        """The cue of item i, 0 to CUES - 1."""
        rng = self._stream(i, WORLD)
        own, other = rng.random() < SHARE, int(rng.integers(CUES))
        category = self.instance(i) // self.instances
        if self.solution or not own or category not in self.trained:
            return other
        order = default_rng([self.seed, int(i < self.photos), WORLD]).permutation(CUES)
        return int(order[category % CUES])

    def _photo(self, i: int, rng: Generator) -> Image.Image:
        hues = np.array(divmod(self.cue(i), HUES[1])) / HUES + rng.normal(0, 0.01, 2)
        bright, dark = (255 * np.array(colorsys.hsv_to_rgb(hue % 1, 0.75, value)) for hue, value in zip(hues, (0.9, 0.45), strict=True))
        blank = Image.new("L", (2 * self.size, 2 * self.size))
        inside, ground = (two_tone(blank, np.stack([tone, tone])) for tone in (dark, bright))
        return flat_photo(self.posed(self.figure(i), rng), inside, ground, self._others(i, rng), rng)

    def _sketch(self, i: int, rng: Generator) -> Image.Image:
        rest, width = divmod(self.cue(i), len(WIDTHS))
        ink, dash = divmod(rest, len(DASHES))
        sheet = Image.new("L", (2 * self.size, 2 * self.size), 255)
        draw = ImageDraw.Draw(sheet)
        for line in self._strokes(i, rng):
            for k in range(len(line) - 1):
                if DASHES[dash] == 0 or k // DASHES[dash] % 2 == 0:
                    draw.line((line[k : k + 2] * sheet.width).ravel().tolist(), fill=INKS[ink], width=2 * WIDTHS[width])
        return sheet.reduce(2)
