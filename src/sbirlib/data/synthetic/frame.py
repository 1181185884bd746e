"""Placement of a figure in the image frame: rotation, foreshortening, scale and position."""

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from PIL import ImageDraw

from sbirlib.data.synthetic.grammar import Figure
from sbirlib.data.synthetic.outline import FloatArray

MARGIN = 0.03


def turned(figure: Figure, rng: Generator, *, degrees: float, squeeze: float) -> Figure:
    """Rotate a figure by up to `degrees`, and foreshorten it along a random direction by a factor of at least `squeeze`."""
    angle, axis, short = rng.uniform(-degrees, degrees) * np.pi / 180, rng.uniform(0, np.pi), rng.uniform(squeeze, 1)
    along = np.array([np.cos(axis), np.sin(axis)])
    matrix = _rotation(angle) @ (np.eye(2) - (1 - short) * np.outer(along, along))
    return replace(figure, outlines=figure.outlines @ matrix.T)


def fitted(figure: Figure, rng: Generator, *, cover: float) -> Figure:
    """Scale a figure until its bounding box covers the share `cover` of the frame [0, 1]^2, or its longer side reaches the margins; place it
    at random inside."""
    points = figure.outlines.reshape(-1, 2)
    low, extent = points.min(0), figure.extent
    scale = min(np.sqrt(cover / extent.prod()), (1 - 2 * MARGIN) / extent.max())
    free = 1 - 2 * MARGIN - scale * extent
    corner = MARGIN + free * rng.beta(2, 2, size=2)
    return replace(figure, outlines=(figure.outlines - low) * scale + corner)


def paint(draw: ImageDraw.ImageDraw, figure: Figure, side: int, first: int) -> int:
    """Fill outline k with the label first + k, and holes with 0; return the next free label."""
    for label, (points, hole) in enumerate(zip(figure.outlines * side, figure.hole, strict=True), start=first):
        draw.polygon(points.ravel().tolist(), fill=0 if hole else label)
    return first + len(figure.outlines)


def _rotation(angle: float) -> FloatArray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
