"""Base of the worlds' readers."""

from dataclasses import dataclass

from numpy.random import Generator

from sbirlib.data.synthetic.frame import fitted, turned
from sbirlib.data.synthetic.grammar import Figure
from sbirlib.data.synthetic.photo import SQUEEZE, TURN
from sbirlib.data.synthetic.renderer import Synthetic

COVER = 0.75  # of the frame, by the bounding box of a figure
WORLD = 2  # stream of what a world draws for an item besides its style


@dataclass(frozen=True)
class World(Synthetic):
    """Reader of a world: as `Synthetic`, with other figures or another style.

    trained: categories of the training split.
    solution: render what the world's idea would recover: the images without what makes this world difficult.
    """

    trained: tuple[int, ...] = ()
    solution: bool = False

    def posed(self, figure: Figure, rng: Generator) -> Figure:
        """A figure at a random place in the frame, and turned if this dataset is."""
        standing = turned(figure, rng, degrees=TURN if self.turn else 0.0, squeeze=SQUEEZE if self.turn else 1.0)
        return fitted(standing, rng, cover=COVER)
