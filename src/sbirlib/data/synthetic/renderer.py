"""Renderer of item i of the synthetic dataset from (seed, i), without state."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image
from torch.quasirandom import SobolEngine

from sbirlib.data.synthetic.categories import grammars, typical
from sbirlib.data.synthetic.grammar import Figure, figure
from sbirlib.data.synthetic.outline import FloatArray
from sbirlib.data.synthetic.photo import photo
from sbirlib.data.synthetic.sketch import sketch, strokes

DISTRACTORS = 4
_ABSTRACTION, STYLE = 0, 1  # streams of an item


@dataclass(frozen=True)
class Synthetic:
    """Reader that renders item i: the photos by category and instance, then the `sketches` of each instance in the same order.

    The figure of an item depends on `seed`, its category and its instance; everything else on (`style_seed`, i), so that style is
    independent of shape. `extras` are the categories whose figures may be in the background.
    """

    categories: int
    instances: int
    sketches: int
    size: int
    seed: int
    difficulty: float
    extras: tuple[int, ...]
    turn: bool
    style_seed: int

    @property
    def photos(self) -> int:
        """The number of photos, which are the first items."""
        return self.categories * self.instances

    def __len__(self) -> int:
        return self.photos * (1 + self.sketches)

    def instance(self, i: int) -> int:
        """The instance of item i, numbered through all categories."""
        return i if i < self.photos else (i - self.photos) // self.sketches

    def figure(self, i: int) -> Figure:
        """The figure of item i, without style."""
        category, k = divmod(self.instance(i), self.instances)
        grammar = grammars(self.seed, self.categories)[category]
        return figure(grammar, instance_values(self.seed, category, grammar.values, self.instances)[k])

    def central(self, category: int) -> Figure:
        """The central figure of a category, without style."""
        return _typical(self.seed, self.categories, category)

    def abstraction(self, i: int) -> float:
        """The abstraction of sketch i in [0, 1]: uniform around the difficulty, as wide as both ends allow; 0 for a photo."""
        if i < self.photos:
            return 0.0
        room = min(self.difficulty, 1 - self.difficulty)
        return float(self.difficulty + room * self._stream(i, _ABSTRACTION).uniform(-1, 1))

    def strokes(self, i: int) -> list[FloatArray]:
        """The strokes of sketch i as polylines [P, 2] in the frame [0, 1]^2, x to the right, y down."""
        return self._strokes(i, self._stream(i, STYLE))

    def __call__(self, i: int) -> Image.Image:
        rng = self._stream(i, STYLE)
        return self._photo(i, rng) if i < self.photos else self._sketch(i, rng).convert("RGB")

    def _photo(self, i: int, rng: Generator) -> Image.Image:
        return photo(self.figure(i), rng, size=self.size, others=self._others(i, rng), turn=self.turn)

    def _sketch(self, i: int, rng: Generator) -> Image.Image:
        return sketch(self._strokes(i, rng), rng, size=self.size)

    def _strokes(self, i: int, rng: Generator) -> list[FloatArray]:
        return strokes(self.figure(i), rng, abstraction=self.abstraction(i), turn=self.turn)

    def _others(self, i: int, rng: Generator) -> list[Figure]:
        own = i // self.instances
        candidates = [c for c in self.extras if c != own]
        count = rng.integers(0, DISTRACTORS + 1) if candidates else 0
        return [self.central(int(c)) for c in rng.choice(candidates, count)] if count else []

    def _stream(self, i: int, stream: int) -> Generator:
        return np.random.default_rng([self.style_seed, i, stream])


@cache
def _typical(seed: int, categories: int, category: int) -> Figure:
    return typical(grammars(seed, categories)[category])


@cache
def instance_values(seed: int, category: int, count: int, instances: int) -> FloatArray:
    """Values [instances, count] in [-1, 1]: a Sobol sequence, scrambled for each category."""
    scramble = int(np.random.default_rng([seed, category, 1]).integers(2**31))
    points: FloatArray = SobolEngine(count, scramble=True, seed=scramble).draw(instances).double().numpy() * 2 - 1
    return points
