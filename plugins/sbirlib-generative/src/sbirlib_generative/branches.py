"""Weight sharing between the branches of sketches and photos."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sbirlib.plugin_api import PHOTO, SKETCH, Batch, Encoder, Features, InputError, Wrapper, world_size


class Branches(Wrapper):
    """A branch for sketches and a branch for photos, with or without shared weights (Pang et al. 2017, section 3.3, figure 2).

    "siamese" is one encoder for both. "heterogeneous" is two, initialised as copies of `encoder`: `self.encoder` for sketches and `self.photo`
    for photos. "hybrid" is two that share the module `embedding`. Rows are those of each image's branch, in the order of the batch. Raises
    InputError for "hybrid" around an encoder without an `embedding`.

    Args:
        encoder: encoder that both branches start from
        sharing: weights that the branches share: all ("siamese"), none ("heterogeneous"), or the embedding's ("hybrid")

    >>> Branches(encoder=encoder, sharing="hybrid").photo.embedding is encoder.embedding
    True
    """

    photo: Encoder

    def __init__(self, *, encoder: Encoder, sharing: Literal["siamese", "heterogeneous", "hybrid"] = "siamese") -> None:
        super().__init__(encoder)
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
        return merge([(rows, branch(batch[rows])) for rows, branch in routed])

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, S, W]."""
        return self._vectors(batch, lambda branch, own: branch.query_vectors(own))

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, W]."""
        return self._vectors(batch, lambda branch, own: branch.gallery_vectors(own))

    def _routed(self, batch: Batch) -> list[tuple[Tensor, Encoder]] | None:
        """Indices [M] of the images of each modality in the batch, and their branch; None where one encoder takes all."""
        if self.sharing == "siamese" or len(batch) == 0:
            return None
        branches = {SKETCH: self.encoder, PHOTO: self.photo}
        routed = [((batch.modality == modality).nonzero()[:, 0], branch) for modality, branch in branches.items()]
        some = (
            len if world_size() == 1 else lambda _: True
        )  # another process may have images of the other modality, and batch norms wait for it
        return [(rows, branch) for rows, branch in routed if some(rows)]

    def _vectors(self, batch: Batch, of: Callable[[Encoder, Batch], Tensor]) -> Tensor:
        routed = self._routed(batch)
        if routed is None:
            return of(self.encoder, batch)
        vectors = torch.cat([of(branch, batch[rows]) for rows, branch in routed])
        return vectors[torch.cat([rows for rows, _ in routed]).argsort()]


def merge(subsets: list[tuple[Tensor, Features]]) -> Features:
    """Features of a batch from those of its subsets, each with the indices [M] of its images: rows in the order of images."""
    apart = [replace(features, source=images[features.source]) for images, features in subsets]
    order = torch.cat([features.source for features in apart]).argsort(stable=True)
    back = torch.cat([images for images, _ in subsets]).argsort()
    first = apart[0]
    tensors: dict[str, Any] = {}
    for name in (f.name for f in fields(Features) if f.name not in ("rows", "images", "extra")):
        tensors[name] = torch.cat([getattr(features, name) for features in apart])[order]
    return Features(
        **tensors,
        rows={name: torch.cat([features.rows[name] for features in apart])[order] for name in first.rows},
        images={name: torch.cat([features.images[name] for features in apart])[back] for name in first.images},
        extra={name: value for features in apart for name, value in features.extra.items()},
    )
