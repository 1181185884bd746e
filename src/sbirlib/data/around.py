"""Base of augmentations that follow those of another transform."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from sbirlib.interfaces import Component, Transform


@dataclass(frozen=True, kw_only=True)
class Around(Component):
    """A transform around `transform`, which prepares images alone; queries and photos that are searched are therefore as without it."""

    transform: Transform

    @property
    def size(self) -> int:
        """Side S of the square, in pixels."""
        return self.transform.size

    @property
    def paired(self) -> bool:
        """Whether images of one instance are changed alike."""
        return bool(getattr(self.transform, "paired", False))

    def prepare(self, image: Image.Image, modality: int) -> Tensor:
        """A PIL image to uint8 [3, S, S], the same every time."""
        return self.transform.prepare(image, modality)

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """Random change of a prepared image uint8 [3, S, S], by torch's global generator."""
        return self.transform.augment(image, modality)
