"""Whether sketches and photos go through the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Wrapper

SHARINGS = ("siamese", "heterogeneous", "hybrid")


class Branches(Wrapper):
    """A branch for sketches and a branch for photos, which share their weights or not (Pang et al. 2017, section 3.3, figure 2).

    `sharing` "siamese": one encoder for both. "heterogeneous": two, which begin as copies of `encoder`, `self.encoder` for sketches and
    `self.photo` for photos. "hybrid": two, which share the module `embedding`. Each image gives the rows that its branch gives, in the
    order of the batch. Raises InputError for an unknown sharing, and for "hybrid" around an encoder without an `embedding`.

    >>> Branches(encoder=encoder, sharing="hybrid").photo.embedding is encoder.embedding    # doctest: +SKIP
    True
    """

    photo: Encoder

    def __init__(self, *, encoder: Encoder, sharing: str = "siamese") -> None:
        super().__init__(encoder)
        if sharing not in SHARINGS:
            raise InputError(f"unknown sharing {sharing!r}{nearest(sharing, SHARINGS)}")
        self.sharing = sharing
        if sharing == "siamese":
            return
        self.photo = copy.deepcopy(encoder)
        if sharing == "hybrid":
            if not isinstance(getattr(encoder, "embedding", None), torch.nn.Module):
                raise InputError(f"sharing='hybrid' shares the module `embedding`, and {type(encoder).__name__} has none")
            self.photo.embedding = encoder.embedding

    def forward(self, batch: Batch) -> Features:
        routed = self._routed(batch)
        if routed is None:
            features: Features = self.encoder(batch)
            return features
        return joined([(rows, branch(batch[rows])) for rows, branch in routed])

    def query_vectors(self, batch: Batch) -> Tensor:
        return self._vectors(batch, lambda branch, own: branch.query_vectors(own))

    def gallery_vectors(self, batch: Batch) -> Tensor:
        return self._vectors(batch, lambda branch, own: branch.gallery_vectors(own))

    def _routed(self, batch: Batch) -> list[tuple[Tensor, Encoder]] | None:
        """The images of each modality that is there, and their branch; None where one encoder takes all."""
        if self.sharing == "siamese" or len(batch) == 0:
            return None
        branches = {SKETCH: self.encoder, PHOTO: self.photo}
        routed = [((batch.modality == modality).nonzero()[:, 0], branch) for modality, branch in branches.items()]
        return [(rows, branch) for rows, branch in routed if len(rows)]

    def _vectors(self, batch: Batch, of: Callable[[Encoder, Batch], Tensor]) -> Tensor:
        routed = self._routed(batch)
        if routed is None:
            return of(self.encoder, batch)
        vectors = torch.cat([of(branch, batch[rows]) for rows, branch in routed])
        return vectors[torch.cat([rows for rows, _ in routed]).argsort()]


def joined(parts: list[tuple[Tensor, Features]]) -> Features:
    """The features of a batch from those of its parts, each with the images [n] it was made of: rows in the order of images."""
    apart = [replace(features, source=images[features.source]) for images, features in parts]
    order = torch.cat([features.source for features in apart]).argsort(stable=True)
    back = torch.cat([images for images, _ in parts]).argsort()
    first = apart[0]
    given: dict[str, Any] = {}
    for name in (f.name for f in fields(Features) if f.name not in ("rows", "images", "extra")):
        given[name] = torch.cat([getattr(features, name) for features in apart])[order]
    return Features(
        **given,
        rows={name: torch.cat([features.rows[name] for features in apart])[order] for name in first.rows},
        images={name: torch.cat([features.images[name] for features in apart])[back] for name in first.images},
        extra={name: value for features in apart for name, value in features.extra.items()},
    )
