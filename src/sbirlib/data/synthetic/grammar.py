"""A category is a grammar: a root body and the parts attached to it. Values of the grammar make an instance, a `Figure`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbirlib.data.synthetic.outline import POINTS, FloatArray, outline

QUARTER = 0.25  # how far an instance may stray from its category


@dataclass(frozen=True)
class Part:
    """One shape, and where it sits: `at` is the place on the parent's contour (0 to 1), `angle` is counted from the contour's normal.

    `size` is relative to the parent; `copies` are spread over the share `spread` of the parent's contour (1: radially, all around);
    `mirror` adds the reflection in the vertical axis; `hole` is the relative size of a hole; `behind` is drawn before its parent.
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
    """Parts, the root first; the part `joint` swings. An upright root stands along the mirror axis, another lies."""

    parts: tuple[Part, ...]
    joint: int
    upright: bool

    @property
    def values(self) -> int:
        """How many values make an instance: width and bend of the root; size, width and angle of every other part."""
        return 3 * len(self.parts) - 1


@dataclass(frozen=True)
class Figure:
    """Outlines [K, POINTS, 2] in drawing order (y down, centred, the longer side 1), the part [K] each belongs to, and which are holes [K]."""

    outlines: FloatArray
    part: NDArray[np.int64]
    hole: NDArray[np.bool_]

    @property
    def extent(self) -> FloatArray:
        """Width and height."""
        points = self.outlines.reshape(-1, 2)
        return points.max(0) - points.min(0)


def figure(grammar: Grammar, values: FloatArray) -> Figure:
    """The instance that `values` in [-1, 1] make of a grammar: proportions stray by a quarter, angles by a quarter radian (the joint: three)."""
    contours: list[FloatArray] = []
    frames: list[FloatArray] = []
    for number, part in enumerate(grammar.parts):
        if number == 0:
            grow, widen, swing = 1.0, values[0], values[1]
            frame = _root_frame(grammar.upright)
            swing = 0.0 if grammar.upright else swing  # a mirrored body stays straight
        else:
            grow, widen, swing = 1 + QUARTER * values[3 * number - 1], values[3 * number], values[3 * number + 1]
            swing *= 3.0 if number == grammar.joint else 1.0
            frame = frames[part.parent][:, None] @ _attached(part, contours[part.parent], grow, QUARTER * swing)[None]
            frame = frame.reshape(-1, 3, 3)
            if part.mirror:
                frame = np.concatenate([frame, _MIRROR @ frame])
        bend = part.bend * (1 + QUARTER * swing) + (QUARTER * swing if part.shape in ("limb", "arc") else 0.0)
        contours.append(outline(part.shape, part.form, part.width * (1 + QUARTER * widen), bend))
        frames.append(frame)
    return _drawn(grammar, contours, frames)


_MIRROR = np.diag([-1.0, 1.0, 1.0])


def _root_frame(upright: bool) -> FloatArray:
    frame = np.array([[0.0, -1, 0], [1, 0, -0.5], [0, 0, 1]]) if upright else np.array([[1.0, 0, -0.5], [0, 1, 0], [0, 0, 1]])
    return frame[None]


def _attached(part: Part, contour: FloatArray, grow: float, swing: float) -> FloatArray:
    """Frames [copies, 3, 3] within the parent's: on its contour, along the outward normal, a little inside."""
    steps = np.arange(part.copies) / part.copies if part.spread == 1 else (np.arange(part.copies) - (part.copies - 1) / 2) / max(part.copies - 1, 1)
    place = np.round((part.at + steps * part.spread) * POINTS).astype(int)
    along = contour[(place + 2) % POINTS] - contour[(place - 2) % POINTS]
    area = np.sum(contour[:, 0] * np.roll(contour[:, 1], -1) - contour[:, 1] * np.roll(contour[:, 0], -1))
    normal = np.arctan2(along[:, 1], along[:, 0]) - np.sign(area) * np.pi / 2
    size = part.size * grow
    cos, sin = size * np.cos(normal + part.angle + swing), size * np.sin(normal + part.angle + swing)
    foot = contour[place % POINTS] - 0.12 * np.stack([cos, sin], axis=1)
    zero, one = np.zeros(len(place)), np.ones(len(place))
    rows = [cos, -sin, foot[:, 0], sin, cos, foot[:, 1], zero, zero, one]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)


def _drawn(grammar: Grammar, contours: list[FloatArray], frames: list[FloatArray]) -> Figure:
    """All copies of all parts, what lies behind first, centred and scaled to unit size."""
    outlines, part, hole = [], [], []
    for number in sorted(range(len(frames)), key=lambda k: (not grammar.parts[k].behind, k)):
        contour, opening = contours[number], grammar.parts[number].hole
        for matrix in frames[number]:
            outlines.append(contour @ matrix[:2, :2].T + matrix[:2, 2])
            part.append(number)
            hole.append(False)
            if opening:
                outlines.append(((contour - contour.mean(0)) * opening + contour.mean(0)) @ matrix[:2, :2].T + matrix[:2, 2])
                part.append(number)
                hole.append(True)
    points = np.stack(outlines) * [1, -1]
    low, high = points.min((0, 1)), points.max((0, 1))
    return Figure((points - (low + high) / 2) / (high - low).max(), np.array(part), np.array(hole))
