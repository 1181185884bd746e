"""Shape grammars: a category is a grammar of attached primitives, and its values give an instance, a `Figure`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbirlib.data.synthetic.outline import POINTS, FloatArray, outline

QUARTER = 0.25  # largest relative deviation of an instance from its category


@dataclass(frozen=True)
class Primitive:
    """One shape with its attachment to its parent.

    shape, form, width, bend: arguments of `outline`.
    parent: number of the parent.
    at: position on the parent's contour, 0 to 1.
    angle: angle from the normal of that contour, in radians.
    size: size relative to the parent.
    copies: number of copies, spread over the share `spread` of the parent's contour (1: radially, all around).
    mirror: whether the reflection in the vertical axis is added.
    hole: relative size of a hole, 0 for none.
    behind: whether it is drawn before its parent.
    """

    shape: str
    form: tuple[float, ...]
    width: float
    bend: float = 0.0
    parent: int = 0
    at: float = 0.0
    angle: float = 0.0
    size: float = 1.0
    copies: int = 1
    spread: float = 1.0
    mirror: bool = False
    hole: float = 0.0
    behind: bool = False


@dataclass(frozen=True)
class Grammar:
    """Primitives, the root first; the primitive number `joint` swings. An upright root stands along the mirror axis, another one lies."""

    primitives: tuple[Primitive, ...]
    joint: int
    upright: bool

    @property
    def values(self) -> int:
        """The number of values of an instance: width and bend of the root; size, width and angle of every other primitive."""
        return 3 * len(self.primitives) - 1


@dataclass(frozen=True)
class Figure:
    """Outlines in drawing order (y down, centred, the longer side 1).

    outlines: [K, POINTS, 2].
    primitive: the number of the primitive of each outline [K].
    hole: mask of the outlines that are holes [K].
    """

    outlines: FloatArray
    primitive: NDArray[np.int64]
    hole: NDArray[np.bool_]

    @property
    def extent(self) -> FloatArray:
        """Width and height, [2]."""
        points = self.outlines.reshape(-1, 2)
        size: FloatArray = np.ptp(points, axis=0)
        return size


def figure(grammar: Grammar, values: FloatArray) -> Figure:
    """The instance of a grammar with `values` [N] in [-1, 1]: proportions deviate by up to a quarter, angles by up to a quarter radian, that of
    the joint by three times as much."""
    contours: list[FloatArray] = []
    frames: list[FloatArray] = []
    for number, primitive in enumerate(grammar.primitives):
        if number == 0:
            grow, widen, swing = 1.0, values[0], values[1]
            frame = _root_frame(grammar.upright)
            swing = 0.0 if grammar.upright else swing  # a mirrored body stays straight
        else:
            grow, widen, swing = 1 + QUARTER * values[3 * number - 1], values[3 * number], values[3 * number + 1]
            swing *= 3.0 if number == grammar.joint else 1.0
            frame = frames[primitive.parent][:, None] @ _attached(primitive, contours[primitive.parent], grow, QUARTER * swing)[None]
            frame = frame.reshape(-1, 3, 3)
            if primitive.mirror:
                frame = np.concatenate([frame, _MIRROR @ frame])
        bend = primitive.bend * (1 + QUARTER * swing) + (QUARTER * swing if primitive.shape in ("limb", "arc") else 0.0)
        contours.append(outline(primitive.shape, primitive.form, primitive.width * (1 + QUARTER * widen), bend))
        frames.append(frame)
    return _layered(grammar, contours, frames)


_MIRROR = np.diag([-1.0, 1.0, 1.0])


def _root_frame(upright: bool) -> FloatArray:
    frame = np.array([[0.0, -1, 0], [1, 0, -0.5], [0, 0, 1]]) if upright else np.array([[1.0, 0, -0.5], [0, 1, 0], [0, 0, 1]])
    return frame[None]


def _attached(primitive: Primitive, contour: FloatArray, grow: float, swing: float) -> FloatArray:
    """Frames [copies, 3, 3] in the parent's frame: on its contour, along the outward normal, slightly inside."""
    steps = np.arange(primitive.copies) / primitive.copies
    if primitive.spread < 1:
        steps = primitive.spread * (np.arange(primitive.copies) / max(primitive.copies - 1, 1) - 0.5)
    place = np.round((primitive.at + steps) * POINTS).astype(int)
    along = contour[(place + 2) % POINTS] - contour[(place - 2) % POINTS]
    direction = np.arctan2(along[:, 1], along[:, 0]) + np.pi / 2 + primitive.angle + swing
    cos, sin = primitive.size * grow * np.cos(direction), primitive.size * grow * np.sin(direction)
    foot = contour[place % POINTS] - 0.12 * np.array([cos, sin]).T
    frames = np.zeros((primitive.copies, 3, 3))
    frames[:, 0, 0], frames[:, 0, 1], frames[:, 0, 2] = cos, -sin, foot[:, 0]
    frames[:, 1, 0], frames[:, 1, 1], frames[:, 1, 2] = sin, cos, foot[:, 1]
    frames[:, 2, 2] = 1
    return frames


def _layered(grammar: Grammar, contours: list[FloatArray], frames: list[FloatArray]) -> Figure:
    """The figure of all copies, each followed by its hole, those behind their parent first; centred and scaled to unit size."""
    outlines, primitive, hole = [], [], []
    for number in sorted(range(len(frames)), key=lambda k: (not grammar.primitives[k].behind, k)):
        contour, opening = contours[number], grammar.primitives[number].hole
        layers = contour[None]
        if opening:
            centre = contour.mean(0)
            layers = np.array([contour, (contour - centre) * opening + centre])
        matrices, shifts = frames[number][:, None, :2, :2], frames[number][:, None, None, :2, 2]
        outlines.append((layers @ matrices.swapaxes(-1, -2) + shifts).reshape(-1, POINTS, 2))
        primitive += [number] * len(outlines[-1])
        hole += [False, True][: len(layers)] * len(frames[number])
    points = np.concatenate(outlines) * [1, -1]
    low, high = points.min((0, 1)), points.max((0, 1))
    return Figure((points - (low + high) / 2) / (high - low).max(), np.array(primitive), np.array(hole))
