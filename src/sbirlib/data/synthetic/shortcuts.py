"""Shortcut features: simple image statistics that must stay near chance on the synthetic dataset, and HOG, which may exceed it."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from sbirlib.data.synthetic.outline import FloatArray

SIDE = 64


def pixels(image: Image.Image) -> FloatArray:
    """Standard scores of the grey image at 32 x 32, [1024]."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    values: FloatArray = (grey - grey.mean()).ravel() / (grey.std() + 1e-6)
    return values


def colour(image: Image.Image) -> FloatArray:
    """Mean red, green and blue, [3]."""
    means: FloatArray = np.asarray(image.convert("RGB"), dtype=np.float64).mean((0, 1))
    return means


def ink(image: Image.Image) -> FloatArray:
    """The share of edge pixels, [1]."""
    size, _ = _edges(image)
    return np.array([(size > 0.25 * size.max()).mean()])


def aspect(image: Image.Image) -> FloatArray:
    """Logarithm of width over height, estimated from the spread of the edges, [1]."""
    size, _ = _edges(image)
    at = np.arange(SIDE)
    spread = [np.sqrt(np.cov(at, aweights=size.sum(axis) + 1e-9)) for axis in (0, 1)]
    return np.array([np.log(spread[0] / spread[1])])


def hog(image: Image.Image) -> FloatArray:
    """Histograms of oriented gradients (Dalal and Triggs 2005): 8 x 8 cells of 9 directions, in unit-length blocks
    of 2 x 2 cells, [1764]."""
    size, direction = _edges(image)
    bins = np.minimum((direction / np.pi * 9).astype(int), 8)
    row, column = np.indices(size.shape) // (SIDE // 8)
    cells = np.bincount(((row * 8 + column) * 9 + bins).ravel(), size.ravel(), minlength=576).reshape(8, 8, 9)
    blocks = np.concatenate([cells[a : a + 7, b : b + 7] for a in (0, 1) for b in (0, 1)], axis=2)
    normed: FloatArray = blocks / np.sqrt((blocks**2).sum(2, keepdims=True) + 1.0)
    return normed.ravel()


SHORTCUTS: dict[str, Callable[[Image.Image], FloatArray]] = {
    "pixels": pixels,
    "mean colour": colour,
    "ink": ink,
    "aspect": aspect,
    "HOG": hog,
}


def _edges(image: Image.Image) -> tuple[FloatArray, FloatArray]:
    """Magnitude and direction (0 to pi) of the grey gradient, [SIDE, SIDE] each."""
    grey = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    down, right = np.gradient(grey)
    return np.hypot(down, right), np.arctan2(down, right) % np.pi
