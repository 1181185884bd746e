"""Rendering of sketches: the visible contours of a figure as strokes, with deviations that grow with `abstraction`."""

from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sbirlib.data.synthetic.frame import fitted, paint, turned
from sbirlib.data.synthetic.grammar import Figure
from sbirlib.data.synthetic.outline import POINTS, FloatArray

CORNER = 0.7  # angle between neighbouring segments, in radians, at which a stroke ends
RASTER = 160  # side of the raster for hidden-line removal, in pixels
Indices = NDArray[np.int64]


def strokes(figure: Figure, rng: Generator, *, abstraction: float, turn: bool) -> list[FloatArray]:
    """Strokes as polylines [P, 2] in the frame [0, 1]^2 (x to the right, y down), whose deviations scale with `abstraction` in [0, 1]."""
    return labelled_strokes(figure, rng, abstraction=abstraction, turn=turn)[0]


def labelled_strokes(figure: Figure, rng: Generator, *, abstraction: float, turn: bool) -> tuple[list[FloatArray], list[int]]:
    """`strokes`, and the number of the primitive of each."""
    lines = _selected(_contours(figure, rng), figure.primitive, rng, abstraction)
    points = figure.outlines.reshape(-1, 2)[np.concatenate(lines)]
    numbers = [int(figure.primitive[line[0] // POINTS]) for line in lines]
    primitive = np.repeat(numbers, [len(line) for line in lines])
    ends = np.cumsum([len(line) for line in lines])
    points = _jittered(points, primitive, rng, abstraction) + _wobble(len(points), rng, 0.004 + 0.014 * abstraction)
    for end, past in ((ends - 1, -1), (np.r_[0, ends[:-1]], 1)):  # overshoot past the corner, in the direction of the last steps
        points[end] += (points[end] - points[end + 2 * past]) * rng.uniform(0, 1.2 * abstraction, (len(lines), 1))
    count = len(points)
    cloud = Figure(points.reshape(count, 1, 2), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_))
    cloud = turned(cloud, rng, degrees=25 * abstraction if turn else 0.0, squeeze=1 - 0.2 * abstraction if turn else 1.0)
    cloud = fitted(cloud, rng, cover=rng.uniform(0.7 - 0.35 * abstraction, 0.8))
    return np.split(cloud.outlines[:, 0], ends[:-1]), numbers


def sketch(lines: list[FloatArray], rng: Generator, *, size: int) -> Image.Image:
    """Draw polylines [P, 2] in black ink, 1 to 4 px wide, on white, `size` x `size`; drawn at twice the size."""
    image = Image.new("L", (2 * size, 2 * size), 255)
    draw = ImageDraw.Draw(image)
    width = round(2 * rng.uniform(1, 4))
    for line in lines:
        draw.line((line * (2 * size)).ravel().tolist(), fill=0, width=width)
    return image.reduce(2)


def _contours(figure: Figure, rng: Generator) -> list[Indices]:
    """The visible runs of all outlines, cut at corners, as indices into the figure's points [K * POINTS]."""
    raster = Image.new("L", (RASTER, RASTER))
    framed = Figure(figure.outlines * 0.96 + 0.5, figure.primitive, np.zeros_like(figure.hole))
    paint(ImageDraw.Draw(raster), framed, RASTER, 1)
    column, row = np.moveaxis((framed.outlines * RASTER).astype(int), -1, 0)
    visible = np.asarray(raster)[row, column] <= 1 + np.arange(len(figure.outlines))[:, None]
    step = np.roll(figure.outlines, -1, axis=1) - figure.outlines
    angle = np.arctan2(step[:, :, 1], step[:, :, 0])
    corner = np.abs((angle - np.roll(angle, 1, axis=1) + np.pi) % (2 * np.pi) - np.pi) > CORNER
    runs = []
    for k, (inside, cut, start) in enumerate(zip(visible, corner | ~visible, rng.integers(0, POINTS, len(visible)), strict=True)):
        first = int(cut.argmax()) if cut.any() else int(start)
        order = (first + np.arange(POINTS + 1)) % POINTS
        bounds = [0, *(np.flatnonzero(cut[order[1:-1]]) + 1).tolist(), POINTS]
        in_view = inside[order]
        for a, b in pairwise(bounds):  # only the ends of a piece may be hidden
            piece = order[a + (not in_view[a]) : b + bool(in_view[b])]
            if len(piece) > 2:
                runs.append(k * POINTS + piece)
    return runs


def _selected(runs: list[Indices], primitive: Indices, rng: Generator, abstraction: float) -> list[Indices]:
    """A selection of the runs as strokes: some are left out (never of the root), some get a gap, some are traced twice."""
    loose = [k for k, run in enumerate(runs) if primitive[run[0] // POINTS] > 0]
    missing = int((0.05 + 0.2 * abstraction) * len(runs) + rng.random())
    left_out = set(rng.permutation(loose)[:missing].tolist())
    lines = []
    for k, run in enumerate(runs):
        broken, twice, where = rng.random(3)
        if k in left_out:
            continue
        if broken < 0.5 * abstraction and len(run) > 14:
            gap = 4 + int(where * (len(run) - 12))
            lines += [run[:gap], run[gap + 4 :]]
        else:
            lines.append(run)
        if twice < 0.4 * abstraction:
            lines.append(run)
    return lines


def _jittered(points: FloatArray, primitive: Indices, rng: Generator, abstraction: float) -> FloatArray:
    """Apply a random affine map to each primitive about its centre; points [P, 2], primitive [P]."""
    number = int(primitive.max()) + 1
    matrices = np.eye(2) + rng.normal(0, 0.08 * abstraction, (number, 2, 2))
    shift = rng.normal(0, 0.02 * abstraction, (number, 2))
    count = np.maximum(np.bincount(primitive, minlength=number), 1)
    centre = np.stack([np.bincount(primitive, axis, number) / count for axis in points.T], axis=1)
    away: FloatArray = np.einsum("nij,nj->ni", matrices[primitive], points - centre[primitive])
    return away + (centre + shift)[primitive]


def _wobble(count: int, rng: Generator, amplitude: float) -> FloatArray:
    """Smooth random noise around 0, [count, 2]."""
    knots = rng.standard_normal((count // 6 + 3, 2))
    at = np.arange(count) / 6
    knot = at.astype(int)
    t = (1 - np.cos(np.pi * (at - knot)))[:, None] / 2
    smooth: FloatArray = amplitude * (knots[knot] * (1 - t) + knots[knot + 1] * t)
    return smooth
