"""World "style": photos have textures and colours that no sketch has."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image

from sbirlib.data.synthetic.outline import FloatArray
from sbirlib.data.synthetic.sketch import sketch, strokes
from sbirlib.data.synthetic.worlds.flat import flat_photo, stripes, two_tone
from sbirlib.data.synthetic.worlds.world import World

INSIDE: FloatArray = np.array([[230.0, 180, 120], [190, 90, 150]])  # tones of a figure's stripes
GROUND: FloatArray = np.array([[40.0, 60, 90], [70, 110, 60]])
CAST = 12.0  # standard deviation of a photo's colour cast


@dataclass(frozen=True)
class Style(World):
    """Reader of the world "style" (for ACNet, Ren et al. 2022, and for cross-domain generative learning, Pang et al. 2017).

    Figures and sketches are those of `Synthetic`; every photo has the same stripes, inside the figure and behind it, in the same colours but for a
    cast. With `solution` a photo is a clean line drawing of the same geometry.
    """

    def _photo(self, i: int, rng: Generator) -> Image.Image:
        if self.solution:
            return sketch(strokes(self.figure(i), rng, abstraction=0.0, turn=False), rng, size=self.size).convert("RGB")
        side, cast = 2 * self.size, rng.normal(0, CAST, 3)
        inside = two_tone(stripes(side, angle=2.0, pitch=0.07), INSIDE + cast)
        ground = two_tone(stripes(side, angle=0.5, pitch=0.1), GROUND + cast)
        return flat_photo(self.posed(self.figure(i), rng), inside, ground, self._others(i, rng), rng)
