"""Elementary shapes as closed outlines [POINTS, 2] along the x axis from 0 to 1, clockwise (y up)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
POINTS = 60  # divides by 3, 4, 5 and 6, so that every corner of a polygon is a point
SHAPES = ("ellipse", "superellipse", "polygon", "limb", "arc", "blob")
_TURN = np.arange(POINTS) * (2 * np.pi / POINTS)
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)


def outline(shape: str, form: Sequence[float], width: float, bend: float) -> FloatArray:
    """The outline [POINTS, 2] of a shape of unit length, `width` wide, its axis bent by `bend` radians from base to tip.

    `form` is the exponent of a superellipse, the corners of a polygon, the taper of a limb or an arc (1: to a point), or the radii of a blob.
    """
    if shape == "polygon":
        x, y = _polygon(int(form[0]))
    elif shape == "blob":
        radius = _spline(np.asarray(form))
        x, y = radius * _COS, -radius * _SIN
    elif shape in ("limb", "arc"):
        ends = (1 - _COS**8) ** 0.25  # round at both ends
        x, y = -_COS, np.sign(_SIN) * ends * (1 - form[0] * (1 - _COS) / 2)
    else:
        power = 2 / form[0] if shape == "superellipse" else 1.0
        x, y = -np.sign(_COS) * np.abs(_COS) ** power, np.sign(_SIN) * np.abs(_SIN) ** power
    return _bent((x + 1) / 2, y * width / 2, bend)


def _polygon(corners: int) -> tuple[FloatArray, FloatArray]:
    """A regular polygon with its first corner at the tip and POINTS / corners points on each edge."""
    angle = np.arange(corners + 1) * (2 * np.pi / corners)
    at = np.arange(POINTS) * (corners / POINTS)
    x, y = (np.interp(at, np.arange(corners + 1), f(angle)) for f in (np.cos, np.sin))
    return x, -y


def _spline(radii: FloatArray) -> FloatArray:
    """The closed Catmull-Rom spline [POINTS] through the radii."""
    at = np.arange(POINTS) * (len(radii) / POINTS)
    knot = at.astype(int)
    t = at - knot
    a, b, c, d = (radii[(knot + k) % len(radii)] for k in (-1, 0, 1, 2))
    value: FloatArray = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return value


def _bent(x: FloatArray, y: FloatArray, bend: float) -> FloatArray:
    """Bend the axis into an arc of a circle; lengths along it are preserved."""
    if abs(bend) < 1e-6:
        return np.array([x, y]).T
    angle = bend * x
    radius = 1 / bend - y
    return np.array([radius * np.sin(angle), 1 / bend - radius * np.cos(angle)]).T
