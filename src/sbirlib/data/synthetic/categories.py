"""Random categories from (seed, c): each unlike the earlier ones, except siblings, which differ from the one before by one rule."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from sbirlib.data.synthetic.grammar import Figure, Grammar, Primitive, figure
from sbirlib.data.synthetic.outline import SHAPES, FloatArray

SIBLINGS = (3, 6, 9)  # categories, modulo ten, that are siblings of the one before: 30 %
TOO_NEAR = 0.72  # least intersection over union of two silhouettes of unit size that are too similar
SIBLING_OVERLAP = (0.35, 0.9)
MOST_OUTLINES = 24
LONGEST = 1.8  # sides, so that an instance can always fill a quarter of the frame
TRIALS = 64


def family(category: int) -> int:
    """The category whose sibling this one is; itself, if it is no sibling."""
    return category - 1 if category % 10 in SIBLINGS else category


@cache
def grammars(seed: int, count: int) -> tuple[Grammar, ...]:
    """The first `count` categories of a seed; a larger `count` leaves the first ones unchanged."""
    categories: list[Grammar] = []
    shapes: list[FloatArray] = []
    for category in range(count):
        rng = np.random.default_rng([seed, category])
        grammar, shape = _sibling(rng, categories[-1], shapes) if family(category) < category else unlike(rng, shapes, _draw)
        categories.append(grammar)
        shapes.append(shape)
    return tuple(categories)


def typical(grammar: Grammar) -> Figure:
    """The central figure of a category: all values 0."""
    return figure(grammar, np.zeros(grammar.values))


def unlike(rng: Generator, shapes: list[FloatArray], draw: Callable[[Generator], Grammar]) -> tuple[Grammar, FloatArray]:
    """The first of TRIALS random grammars of `draw` that is unlike all earlier silhouettes, or else the least similar one, with its silhouette."""
    best, nearest = None, np.inf
    for _ in range(TRIALS):
        grammar = draw(rng)
        middle = typical(grammar)
        if not _fits(middle):
            continue
        shape = silhouette(middle)
        overlap = max((_overlap(shape, other) for other in shapes), default=0.0)
        if overlap < nearest:
            best, nearest = (grammar, shape), overlap
        if nearest < TOO_NEAR:
            break
    assert best is not None, "no trial gave a figure that fits its frame"
    return best


def _sibling(rng: Generator, other: Grammar, shapes: list[FloatArray]) -> tuple[Grammar, FloatArray]:
    """The other category with one rule visibly changed, unlike all third ones, with its silhouette."""
    best, badness = None, np.inf
    for _ in range(TRIALS):
        grammar = _changed(rng, other)
        middle = typical(grammar)
        if not _fits(middle):
            continue
        shape = silhouette(middle)
        low, high = SIBLING_OVERLAP
        overlap = _overlap(shape, shapes[-1])
        bad = max(low - overlap, overlap - high, 0.0) + max([0.0, *(_overlap(shape, third) - TOO_NEAR for third in shapes[:-1])])
        if bad < badness:
            best, badness = (grammar, shape), bad
        if bad == 0:
            break
    assert best is not None, "no trial gave a figure that fits its frame"
    return best


def _fits(candidate: Figure) -> bool:
    return len(candidate.outlines) <= MOST_OUTLINES and candidate.extent.min() * LONGEST >= 1


def silhouette(figure: Figure, side: int = 40) -> FloatArray:
    """Mask of the filled figure, 0 or 1, [H, H] with H = side."""
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    for points, hole in zip((figure.outlines + 0.5) * side, figure.hole, strict=True):
        draw.polygon(points.ravel().tolist(), fill=0 if hole else 1)
    return np.asarray(image, dtype=np.float64)


def _overlap(one: FloatArray, other: FloatArray) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


def _draw(rng: Generator) -> Grammar:
    """Draw a root and 2 to 6 attached primitives; half of the categories are upright and symmetric, the others lie on their side."""
    upright = bool(rng.random() < 0.5)
    primitives = [root(rng, upright)]
    for _ in range(rng.choice([2, 3, 4, 5, 6], p=[0.3, 0.3, 0.2, 0.1, 0.1])):
        primitives.append(_attachment(rng, primitives, upright))
    return Grammar(tuple(primitives), joint=int(rng.integers(1, len(primitives))), upright=upright)


def _form(rng: Generator, shape: str, mirrored: bool) -> tuple[float, ...]:
    match shape:
        case "superellipse":
            return (float(rng.choice([1.1, 4.0, 6.0])),)
        case "polygon":
            return (float(rng.integers(3, 7)),)
        case "limb":
            return (float(rng.choice([-0.8, 0.0, 0.5, 0.9])),)
        case "arc":
            return (float(rng.choice([0.0, 0.7])),)
        case "blob":
            half = rng.uniform(0.45, 1.0, 5)
            return tuple(map(float, (*half, *half[-2:0:-1]) if mirrored else (*half, *rng.uniform(0.45, 1.0, 2))))
    return ()


def _bend(rng: Generator, shape: str) -> float:
    sign = float(rng.choice([-1.0, 1.0]))
    return sign * float(rng.uniform(2.6, 4.4)) if shape == "arc" else sign * float(rng.uniform(0, 0.9)) if shape == "limb" else 0.0


def root(rng: Generator, upright: bool) -> Primitive:
    """Draw a root; one that is upright is symmetric."""
    shape = str(rng.choice(["ellipse", "superellipse", "polygon", "blob", "limb"]))
    return Primitive(
        shape=shape,
        form=_form(rng, shape, upright),
        width=float(np.exp(rng.uniform(np.log(0.4), np.log(1.1)))),
        bend=0.0 if upright else _bend(rng, shape) * float(shape == "limb"),
        hole=float(rng.uniform(0.35, 0.6)) if rng.random() < 0.2 else 0.0,
    )


def _attachment(rng: Generator, primitives: list[Primitive], upright: bool) -> Primitive:
    """Draw a primitive that is attached to the root, or to a primitive of one copy."""
    single = [k for k, primitive in enumerate(primitives) if k > 0 and primitive.copies == 1]
    parent = int(rng.choice(single)) if single and rng.random() < 0.3 else 0
    shape = str(rng.choice(SHAPES, p=[0.17, 0.12, 0.18, 0.27, 0.12, 0.14]))
    slim = shape in ("limb", "arc")
    repeat = rng.random() if parent == 0 else 1.0
    copies, spread = 1, 1.0
    if repeat < 0.15:
        copies = int(rng.integers(3, 9))
    elif repeat < 0.4:
        copies, spread = int(rng.integers(2, 7)), float(rng.uniform(0.12, 0.4))
    on_axis = upright and rng.random() < 0.4
    at = float(rng.choice([0.0, 0.5])) if on_axis or (copies > 2 and upright) else float(rng.integers(0, 12)) / 12
    size = float(rng.uniform(0.55, 1.1)) if copies == 1 else float(rng.uniform(0.3, 0.75))
    return Primitive(
        shape=shape,
        form=_form(rng, shape, upright),
        width=float(rng.uniform(0.16, 0.34)) if slim else float(np.exp(rng.uniform(np.log(0.35), np.log(1.2)))),
        bend=_bend(rng, shape) * float(not (on_axis and shape == "limb")),
        parent=parent,
        at=at,
        angle=0.0 if on_axis or copies > 1 else float(rng.uniform(-0.7, 0.7)),
        size=size,
        copies=copies,
        spread=spread,
        mirror=upright and not on_axis and parent == 0 and copies < 3,
        hole=float(rng.uniform(0.4, 0.6)) if not slim and copies == 1 and rng.random() < 0.2 else 0.0,
        behind=bool(rng.random() < 0.5),
    )


def _changed(rng: Generator, other: Grammar) -> Grammar:
    """Change one rule of one primitive: its shape, place, size, number or hole."""
    number = int(rng.integers(1, len(other.primitives)))
    primitive = other.primitives[number]
    match rng.choice(["shape", "place", "size", "number", "hole"]):
        case "shape":
            shape = str(rng.choice([s for s in SHAPES if s != primitive.shape]))
            primitive = replace(primitive, shape=shape, form=_form(rng, shape, other.upright), bend=_bend(rng, shape))
        case "place":
            primitive = replace(primitive, at=(primitive.at + float(rng.choice([0.25, 0.5, 0.75]))) % 1)
        case "size":
            primitive = replace(primitive, size=primitive.size * float(rng.choice([0.55, 1.8])))
        case "number":
            primitive = replace(primitive, copies=int(rng.choice([k for k in (1, 3, 4, 5, 6) if abs(k - primitive.copies) > 1])))
        case _:
            primitive = replace(primitive, hole=0.0 if primitive.hole else 0.55)
    return replace(other, primitives=(*other.primitives[:number], primitive, *other.primitives[number + 1 :]))
