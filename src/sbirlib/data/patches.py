"""Augmentation that shuffles the patches of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from sbirlib.data.around import Around
from sbirlib.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ShuffledPatches(Around):
    """The preparation and augmentation of `transform`, after which training cuts a share of the images in cells x cells patches, in random order.

    Where the inner transform is `paired`, a sketch and its photos are cut and ordered alike, so that what lies in a patch is compared and not the
    whole outline (Pang et al. 2020; Sain et al. 2023, section 4). Queries and photos that are searched stay whole. Raises InputError for a
    size that the cells do not divide.

    Args:
        transform: preparation and augmentation of an image
        cells: patches along each side
        share: share of the images that are shuffled

    >>> ShuffledPatches(transform=part("transform", "sbir", size=96), cells=3).size
    96
    """

    cells: Annotated[int, Ge(2)] = 2
    share: Annotated[float, Interval(ge=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        if self.size % self.cells:
            raise InputError(
                f"shuffled_patches: size = {self.size} cannot be cut in {self.cells} equal parts: take a multiple of {self.cells}"
            )

    def augment(self, image: Tensor, modality: int) -> Tensor:
        """Random change of a prepared image uint8 [3, S, S], by torch's global generator."""
        image = self.transform.augment(image, modality)
        chance, order = torch.rand(()), torch.randperm(self.cells**2)
        return shuffled(image, order) if chance < self.share else image


def shuffled(image: Tensor, order: Tensor) -> Tensor:
    """An image [C, S, S] whose patch i, in reading order, is the one that was at order[i]; order [n] with n a square number that divides S^2.

    >>> shuffled(torch.arange(4).reshape(1, 2, 2), torch.tensor([3, 2, 1, 0]))
    tensor([[[3, 2],
             [1, 0]]])
    """
    cells = round(len(order) ** 0.5)
    channels, side = image.shape[0], image.shape[1] // cells
    patches = image.reshape(channels, cells, side, cells, side).transpose(2, 3).reshape(channels, cells * cells, side, side)
    rows = patches[:, order].reshape(channels, cells, cells, side, side).transpose(2, 3)
    return rows.reshape(image.shape)
