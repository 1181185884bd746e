"""Drawings as strokes: rendered as sketches are prepared, with the width of stroke that training sketches have."""

from __future__ import annotations

import math
from typing import Annotated, Self

import numpy as np
from annotated_types import Gt, Interval, Le, MaxLen, MinLen
from PIL import Image, ImageDraw
from pydantic import FiniteFloat, model_validator
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.documents import Schema
from sbirlib.interfaces import SKETCH, Transform

SMALL, LARGE = 128, 1024  # pixels of the side of a rendered sheet
FINE = 2  # drawn larger by this factor, for smooth edges
USUAL_WIDTH = 0.016  # of a stroke, as a share of the side, where no training sketch tells; QuickDraw has 0.018, QMUL shoes 0.014
SAMPLE = 64  # sketches whose strokes are measured
STROKES, POINTS = 2_000, 20_000  # most of one drawing
FAINT = 16 / 255  # least ink that belongs to a stroke
SMALLEST = 1 / 64  # extent of a drawing, as a share of the sheet, below which it is not enlarged further

Unit = Annotated[FiniteFloat, Interval(ge=-1, le=2)]  # a stroke may leave the sheet


class Stroke(Schema):
    """Points [x, y] or [x, y, pressure] of a line, x to the right, y down, in [0, 1]; its width is a share of the side, and `erase` paints white."""

    points: Annotated[list[Annotated[list[Unit], MinLen(2), MaxLen(3)]], MinLen(1), MaxLen(POINTS)]
    width: Annotated[FiniteFloat, Gt(0), Le(0.5)] = USUAL_WIDTH
    erase: bool = False

    @model_validator(mode="after")
    def _pressed(self) -> Self:
        if any(not 0 <= point[2] <= 1 for point in self.points if len(point) == 3):
            raise ValueError("pressure, the third number of a point, is from 0 to 1")
        return self


class Drawing(Schema):
    """Strokes in the order in which they were drawn."""

    strokes: Annotated[list[Stroke], MaxLen(STROKES)]

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (points := sum(len(stroke.points) for stroke in self.strokes)) > POINTS:
            raise ValueError(f"a drawing has at most {POINTS} points, got {points}")
        return self


def render(drawing: Drawing, transform: Transform) -> Image.Image:
    """The drawing as mode L, black on white, S x S pixels, for a transform to prepare: S is twice the transform's own side.

    A transform that keeps the whole sheet gets the sheet as it was drawn. One that scales the ink's box to its square would scale the strokes
    too, so for it the box fills the sheet and widths are shares of the box: small and large drawings have lines of one width, as in training.
    """
    centred = getattr(transform, "sketch_fit", None) == "centre"
    side = min(max(2 * transform.size, SMALL), LARGE)
    left, top, extent = _box(drawing) if centred else (0.0, 0.0, 1.0)
    margin = max((stroke.width for stroke in drawing.strokes), default=0.0) if centred else 0.0
    scale = side * FINE / (1 + 2 * margin)
    sheet = Image.new("L", (side * FINE, side * FINE), 255)
    draw = ImageDraw.Draw(sheet)
    for stroke in drawing.strokes:
        points = np.array([point[:2] for point in stroke.points])
        pixels = ((points - (left, top)) / extent + margin) * scale
        widths = [stroke.width * scale * (0.5 + point[2] if len(point) == 3 else 1.0) for point in stroke.points]
        _line(draw, pixels.tolist(), widths, 255 if stroke.erase else 0)
    return sheet.reduce(FINE)


def stroke_width(pixels: Tensor) -> float:
    """Mean width of the strokes of a prepared sketch, uint8 [3, S, S], as a share of the longer side of its ink's box; 0 without ink.

    A line of width w and length l has the area w l and, but for its ends, the contour 2 l: w is twice the area over the contour's length, which is
    the total variation of the ink.
    """
    ink = 1 - pixels[0].double() / 255
    marked = (ink > FAINT).nonzero()
    if not len(marked):
        return 0.0
    side = int((marked.amax(0) - marked.amin(0)).max()) + 1
    padded = np.pad(ink.numpy(), 1)
    down, right = np.diff(padded, axis=0)[:, :-1], np.diff(padded, axis=1)[:-1]
    contour = float(np.hypot(down, right).sum())
    return 2 * float(ink.sum()) / contour / side


def usual_width(sketches: Dataset, transform: Transform) -> float | None:
    """Median width of the strokes of prepared sketches, of at most `SAMPLE` of them; None without any ink."""
    sample = np.unique(np.linspace(0, len(sketches) - 1, min(SAMPLE, len(sketches))).astype(int))
    widths = [stroke_width(transform.prepare(sketches.read(i), SKETCH)) for i in sample.tolist()]
    return float(np.median([width for width in widths if width])) if any(widths) else None


def _box(drawing: Drawing) -> tuple[float, float, float]:
    """Left, top and side of the square around the points of all ink, about its middle."""
    points = np.array([point[:2] for stroke in drawing.strokes if not stroke.erase for point in stroke.points] or [[0.0, 0.0], [1.0, 1.0]])
    low, high = points.min(0), points.max(0)
    extent = max(float((high - low).max()), SMALLEST)
    left, top = (low + high - extent) / 2
    return float(left), float(top), extent


def _line(draw: ImageDraw.ImageDraw, points: list[list[float]], widths: list[float], grey: int) -> None:
    """Draw a line through points [P, 2] with a width at each, in pixels, and round joints and ends."""
    start, thick = points[0], widths[0]
    _dot(draw, start, thick, grey)
    for point, width in zip(points[1:], widths[1:], strict=True):
        if math.dist(start, point) >= 1:  # pixels: closer points change nothing
            draw.line([*start, *point], fill=grey, width=max(1, round((thick + width) / 2)))
            _dot(draw, point, width, grey)
            start, thick = point, width


def _dot(draw: ImageDraw.ImageDraw, point: list[float], width: float, grey: int) -> None:
    (x, y), radius = point, width / 2
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=grey)
