"""Bodies: single primitives, one for each category, each unlike the earlier ones."""

from dataclasses import replace
from functools import cache

from numpy.random import Generator, default_rng

from sbirlib.data.synthetic.categories import root, typical, unlike
from sbirlib.data.synthetic.grammar import Figure, Grammar, Primitive
from sbirlib.data.synthetic.outline import FloatArray

NARROWEST = 0.45  # width of a body over its length
_STREAM = 2


@cache
def bodies(seed: int, count: int) -> tuple[Primitive, ...]:
    """The first `count` bodies of a seed; a larger `count` leaves the first ones unchanged."""
    primitives: list[Primitive] = []
    shapes: list[FloatArray] = []
    for category in range(count):
        grammar, shape = unlike(default_rng([seed, category, _STREAM]), shapes, lambda rng: single(_body(rng)))
        primitives.append(grammar.primitives[0])
        shapes.append(shape)
    return tuple(primitives)


def single(primitive: Primitive) -> Grammar:
    """The grammar of one upright primitive."""
    return Grammar((primitive,), joint=0, upright=True)


def body_figure(seed: int, count: int, category: int) -> Figure:
    """The figure of one of `count` bodies."""
    return typical(single(bodies(seed, count)[category]))


def _body(rng: Generator) -> Primitive:
    body = root(rng, upright=True)
    return replace(body, width=max(body.width, NARROWEST))
