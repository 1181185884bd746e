"""Tensors that components exchange: batches, features, triplets, and encoded images.

Letters in shapes: B images, N rows, D embedding, V searched vector, T triplets. Labels are int64. The annotations of tensors are checked
while the tests run, and cost nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from sbirlib.distance import at_least_float32

SKETCH, PHOTO = 0, 1


@dataclass(frozen=True)
class Batch:
    """Images [B, 3, H, W] in [0, 1] with their modality, category and instance [B]; -1 where one is not known.

    Inside a phase with a cache the images are features [B, ...], the output of a module of the encoder.
    """

    images: Num[Tensor, "B ..."]
    modality: Int[Tensor, " B"]
    category: Int[Tensor, " B"]
    instance: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        return Batch(*(getattr(self, f.name)[rows] for f in fields(self)))

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


@dataclass(frozen=True)
class Features:
    """Result of an encoder: N rows, which may be more than the B images.

    `embedding` [N, D] is un-normalised, `vector` [N, V] is searched.
    `source` [N] is the image that a row comes from; `view` [N] is 0 for the image itself and 1 for an image synthesised from it.
    `rows`: named tensors per row [N, ...], gathered across processes.
    `images`: named tensors per image [B, ...], local to the process.
    `extra`: anything else, local to the process.
    """

    embedding: Float[Tensor, "N D"]
    vector: Float[Tensor, "N V"]
    modality: Int[Tensor, " N"]
    category: Int[Tensor, " N"]
    instance: Int[Tensor, " N"]
    source: Int[Tensor, " N"]
    view: Int[Tensor, " N"]
    rows: dict[str, Shaped[Tensor, "N ..."]] = field(default_factory=dict)
    images: dict[str, Shaped[Tensor, "B ..."]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        batch: Batch,
        embedding: Tensor,
        *,
        vector: Tensor | None = None,
        rows: dict[str, Tensor] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Features:
        """One row per image from an embedding [B, D]; half precision becomes float32.

        `vector` [B, V] is the L2-normalised embedding by default; `rows` are [B, ...]. Raises ValueError for an embedding of another shape.
        """
        embedding = at_least_float32(embedding)
        count = len(batch)
        if embedding.ndim != 2 or len(embedding) != count:
            raise ValueError(f"an embedding [B, D] with B = {count} was expected, got {list(embedding.shape)}")
        return cls(
            embedding=embedding,
            vector=F.normalize(embedding, dim=1) if vector is None else at_least_float32(vector),
            modality=batch.modality,
            category=batch.category,
            instance=batch.instance,
            source=torch.arange(count, device=embedding.device),
            view=torch.zeros_like(batch.modality),
            rows=rows or {},
            extra=extra or {},
        )

    def __len__(self) -> int:
        return len(self.embedding)

    def map(self, change: Callable[[Tensor], Tensor]) -> Features:
        """The features with `change` applied to every tensor [N, ...]; `images` and `extra` stay as they are."""
        local = ("rows", "images", "extra")
        tensors: dict[str, Any] = {f.name: change(getattr(self, f.name)) for f in fields(self) if f.name not in local}
        return replace(self, **tensors, rows={name: change(value) for name, value in self.rows.items()})

    def __getitem__(self, rows: Tensor | slice) -> Features:
        return self.map(lambda values: values[rows])

    def detach(self) -> Features:
        """The features without gradient; `extra` stays as it is."""
        return replace(self.map(torch.Tensor.detach), images={name: value.detach() for name, value in self.images.items()})


@dataclass(frozen=True)
class Triplets:
    """Row numbers of anchors, positives and negatives, [T] each."""

    anchor: Int[Tensor, " T"]
    positive: Int[Tensor, " T"]
    negative: Int[Tensor, " T"]

    def __len__(self) -> int:
        return self.anchor.numel()


@dataclass(frozen=True)
class Encoded:
    """Vectors of images, [n, S, W] as queries or [n, W] as gallery, with their labels [n] and logits [n, C], on the CPU."""

    vectors: Float[Tensor, "n ..."]
    modality: Int[Tensor, " n"]
    category: Int[Tensor, " n"]
    instance: Int[Tensor, " n"]
    logits: Float[Tensor, "n C"] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Tensor | slice) -> Encoded:
        return replace(self, **{f.name: v[rows] for f in fields(self) if (v := getattr(self, f.name)) is not None})
