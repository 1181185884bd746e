"""Readers around a dataset's reader: images decoded once, and images that carry their position, by which a transform tells blank ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from sbirlib.interfaces import Transform

POSITION = "sbirlib position"  # key in an image's `info`


@dataclass(frozen=True)
class DecodedOnce:
    """Reader that keeps the decoded images of `positions`."""

    reader: Callable[[int], Image.Image]
    threads: int
    positions: frozenset[int]
    decoded: dict[int, Image.Image] = field(default_factory=dict)

    def __call__(self, position: int) -> Image.Image:
        image = self.decoded[position] if position in self.decoded else self.reader(position)
        if position in self.positions:
            self.decoded[position] = image
        return image


@dataclass(frozen=True)
class Numbered:
    """Reader whose images carry their position, so that a transform can tell which image it prepares."""

    reader: Callable[[int], Image.Image]
    threads: int

    def __call__(self, position: int) -> Image.Image:
        image = self.reader(position).copy()  # the image may be the caller's, and may be in the list twice
        image.info[POSITION] = position
        return image


class BlankCheck:
    """Transform that records in `blank` the positions of images without ink: those of which all prepared pixels are equal."""

    def __init__(self, transform: Transform) -> None:
        self.transform, self.size = transform, transform.size
        self.blank: set[int] = set()

    def prepare(self, image: Image.Image, modality: int) -> Tensor:
        """The prepared image, uint8 [3, S, S]."""
        pixels = self.transform.prepare(image, modality)
        if bool(pixels.min() == pixels.max()):
            self.blank.add(image.info[POSITION])
        return pixels

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """The augmented image, uint8 [3, S, S]."""
        return self.transform.augment(image, modality)
