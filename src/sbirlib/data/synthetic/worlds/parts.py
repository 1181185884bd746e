"""World "parts": categories differ in a small part alone, at any place on a random twig, on a sheet with other parts rubbed out."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageDraw

from sbirlib.data.synthetic.categories import typical
from sbirlib.data.synthetic.frame import turned
from sbirlib.data.synthetic.grammar import Figure, Grammar, Primitive
from sbirlib.data.synthetic.outline import FloatArray
from sbirlib.data.synthetic.renderer import STYLE
from sbirlib.data.synthetic.sketch import labelled_strokes
from sbirlib.data.synthetic.worlds.bodies import bodies, body_figure
from sbirlib.data.synthetic.worlds.flat import draw_contours
from sbirlib.data.synthetic.worlds.world import WORLD, World

SIZE = 0.9  # of a part, relative to its twig
RUBBED_OUT = 6  # parts on a sheet
PALE, DARK = (150, 190), (0, 60)  # grey levels of rubbed-out lines and of ink: half way lies between
PEN = (0.8, 1.2)  # width of a line, in pixels


@dataclass(frozen=True)
class Parts(World):
    """Reader of the world "parts" (for the landmark-aware network, Zhang et al. 2019).

    A category is a part. An instance is a twig, a bent limb, with the part at a random place along it. A sketch is dark, on a sheet with the pale
    lines of six parts of random categories, which were rubbed out. With `solution` a sketch is of the part alone, in its place and at its size.
    Photos are those of `Synthetic`. `part_points` is the world's answer: where a sketch shows its part.
    """

    def figure(self, i: int) -> Figure:
        """The twig of item i with its part, whose outlines are of primitive 0: no stroke of it is left out."""
        instance = self.instance(i)
        rng = default_rng([self.seed, instance, WORLD])
        twig = Primitive("limb", (0.0,), width=float(rng.uniform(0.05, 0.08)), bend=float(rng.uniform(-1.5, 1.5)))
        part = replace(bodies(self.seed, self.categories)[instance // self.instances], at=float(rng.uniform(0.15, 0.85)), size=SIZE)
        whole = typical(Grammar((twig, part), joint=0, upright=True))
        return replace(whole, primitive=1 - whole.primitive)

    def central(self, category: int) -> Figure:
        """The part of a category."""
        return body_figure(self.seed, self.categories, category)

    def part_points(self, i: int, count: int) -> FloatArray:
        """Points [count, 2] in the frame [0, 1]^2, evenly spaced along the strokes of the part of sketch i."""
        lines, primitive = self._lines(i, self._stream(i, STYLE))
        points = np.concatenate([line for line, number in zip(lines, primitive, strict=True) if number == 0])
        spaced: FloatArray = points[np.linspace(0, len(points) - 1, count).round().astype(int)]
        return spaced

    def _lines(self, i: int, rng: Generator) -> tuple[list[FloatArray], list[int]]:
        return labelled_strokes(self.figure(i), rng, abstraction=self.abstraction(i), turn=self.turn)

    def _sketch(self, i: int, rng: Generator) -> Image.Image:
        lines, primitive = self._lines(i, rng)
        width, ink = round(2 * rng.uniform(*PEN)), int(rng.uniform(*DARK))
        sheet = Image.new("L", (2 * self.size, 2 * self.size), 255)
        if self.solution:
            lines = [line for line, number in zip(lines, primitive, strict=True) if number == 0]
        else:
            self._rub_out(sheet, rng, width)
        draw = ImageDraw.Draw(sheet)
        for line in lines:
            draw.line((line * sheet.width).ravel().tolist(), fill=ink, width=width)
        return sheet.reduce(2)

    def _rub_out(self, sheet: Image.Image, rng: Generator, width: int) -> None:
        """Draw the pale lines of RUBBED_OUT parts."""
        for category in rng.integers(0, self.categories, RUBBED_OUT):
            part = turned(self.central(int(category)), rng, degrees=180, squeeze=0.9)
            place, size = rng.uniform(0.12, 0.88, 2), rng.uniform(0.2, 0.3)
            draw_contours(sheet, part.outlines * size + place, ink=int(rng.uniform(*PALE)), width=width)
