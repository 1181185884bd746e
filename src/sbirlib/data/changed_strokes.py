"""Augmentation of the strokes of sketches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor

from sbirlib.data.around import Around
from sbirlib.interfaces import SKETCH

FAINT = 16 / 255  # least ink that belongs to a stroke
WHITE = 255


@dataclass(frozen=True, kw_only=True)
class ChangedStrokes(Around):
    """The preparation and augmentation of `transform`, after which training erases pieces of a sketch's strokes, and may make the rest thicker.

    A piece is the ink within `length` / 2 of a random pixel of ink, measured along the strokes, across pixels that touch: a short stroke goes
    whole, a long one loses an end or has a gap, and a stroke nearby that does not touch it stays, as does at least half of all ink. A sketch so
    becomes that of a person who draws less, or with another pen (strokes are removed by Yu et al. 2017, by the order in which they were drawn; here
    images are enough). Photos are not changed.

    Args:
        transform: preparation and augmentation of an image
        pieces: most pieces that are erased; their number is drawn from 0 to it
        length: length of a piece along the stroke, as a share of the side
        thicker: most that is added to the width of all strokes, as a share of the side

    >>> ChangedStrokes(transform=part("transform", "sbir", size=96), pieces=3).size
    96
    """

    pieces: Annotated[int, Ge(0)] = 2
    length: Annotated[float, Interval(gt=0, le=1)] = 0.25
    thicker: Annotated[float, Interval(ge=0, le=0.1)] = 0.0

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """Random change of a prepared image uint8 [3, S, S], by torch's global generator."""
        image = self.transform.augment(image, modality)
        number, where, more = torch.rand(()), torch.rand(self.pieces), torch.rand(())
        if modality != SKETCH:
            return image
        count, ink = int(number * (self.pieces + 1)), 1 - image.float() / WHITE
        darkest = ink.amax(0)
        gone = with_edges(pieces(darkest > FAINT, where[:count], round(self.length * self.size / 2)), darkest)
        if 2 * (darkest * gone).sum() < darkest.sum():  # at least half of the sketch stays
            ink = ink * ~gone
        ink = thickened(ink, float(more) * self.thicker * self.size)
        return (WHITE * (1 - ink)).round().to(torch.uint8)


def pieces(ink: Tensor, where: Tensor, reach: int) -> Tensor:
    """Pixels of `ink`, bool [S, S], at most `reach` steps along it from its pixels at `where` [n], from 0 for the first to 1 beyond the last.

    >>> pieces(torch.tensor([[1, 1, 1, 0, 1]]).bool(), torch.tensor([0.0]), reach=1)
    tensor([[ True,  True, False, False, False]])
    """
    pixels, reached = ink.nonzero(), torch.zeros_like(ink)
    for y, x in pixels[(where * len(pixels)).long()].tolist() if len(pixels) else []:
        near = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
        own, piece = ink[near].float(), torch.zeros_like(ink[near], dtype=torch.float32)
        piece[y - near[0].start, x - near[1].start] = 1
        for _ in range(reach):
            piece = neighbourhood(piece[None])[0] * own
        reached[near] |= piece > 0
    return reached


def with_edges(piece: Tensor, ink: Tensor) -> Tensor:
    """The pixels of a piece, bool [S, S], and those around it that are too faint for a stroke of their own: ink [S, S] from 0 to 1."""
    return piece | (neighbourhood(piece[None].float())[0] > 0) & (ink <= FAINT)


def neighbourhood(values: Tensor) -> Tensor:
    """The largest value around each pixel of [C, S, S] and at it."""
    return F.max_pool2d(values[None], 3, stride=1, padding=1)[0]


def thickened(ink: Tensor, width: float) -> Tensor:
    """Ink [C, S, S] from 0 to 1 whose lines are wider by about `width` pixels: the largest of the neighbours, and a share of it for the rest.

    >>> thickened(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]]), 1.0)
    tensor([[[0.0000, 0.5000, 1.0000, 0.5000, 0.0000]]])
    """
    rounds = width / 2  # a round adds a pixel on each side
    while rounds > 0:
        ink = torch.lerp(ink, neighbourhood(ink), min(rounds, 1.0))
        rounds -= 1
    return ink
