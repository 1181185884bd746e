"""Synthesis of a photo from a sketch, in front of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from sbirlib.plugin_api import PHOTO, SKETCH, Batch, Encoder, Features, InputError, Wrapper
from sbirlib_acnet.networks import Generator, Start

UNIT = 1e-3  # tolerance of a vector's length


class Translator(Encoder):
    """The generator G alone, as an encoder with empty vectors, so that a phase can train it separately.

    `images["synthesised"]` [B, 3, H, W] holds G(s) for sketches, and photos as they are; `images["identity"]` holds G(p) for photos, and sketches
    as they are.

    Args:
        channels: filters of the first convolution of G
        blocks: residual blocks of G
        start: initial values of the convolutions of G: PyTorch's own, as released, or N(0, 0.02), as in CycleGAN
        residual: G(x) = x + r(x), where r is zero at first
        photos: translate photos too, for the loss `photo_identity`
    """

    dim = vector_dim = 0
    provides = frozenset({"synthesised", "identity", "translator"})

    def __init__(
        self,
        *,
        channels: Annotated[int, Ge(1)] = 8,
        blocks: Annotated[int, Ge(0)] = 8,
        start: Start = "default",
        residual: bool = False,
        photos: bool = True,
    ) -> None:
        super().__init__()
        self.generator, self.photos = Generator(channels=channels, blocks=blocks, start=start, residual=residual), photos
        if not photos:
            self.provides = self.provides - {"identity"}

    def forward(self, batch: Batch) -> Features:
        nothing = batch.images.new_zeros(len(batch), 0)
        return replace(Features.of(batch, nothing, vector=nothing), images=self.images(batch), extra={"translator": self.generator})

    def images(self, batch: Batch) -> dict[str, Tensor]:
        """Named tensors [B, 3, H, W] of the batch's images."""
        if self.photos:
            outputs, sketch = self.generator(batch.images), (batch.modality == SKETCH)[:, None, None, None]
            return {"synthesised": torch.where(sketch, outputs, batch.images), "identity": torch.where(sketch, batch.images, outputs)}
        return {"synthesised": self.synthesised(batch)}

    def synthesised(self, batch: Batch) -> Tensor:
        """Images of the batch [B, 3, H, W], sketches as synthesised photos."""
        sketch = batch.modality == SKETCH
        return batch.images.float().index_put((sketch.nonzero()[:, 0],), self.generator(batch.images[sketch]).float())


class Synthesis(Wrapper):
    """A sketch-to-photo generator G in front of any encoder Phi (ACNet, figure 2): a sketch is searched as Phi(G(s)), a photo as Phi(p).

    In training there is a row for each sketch and photo (view 0), and one for each synthesised photo (view 1); in eval mode one row for each
    image, a sketch's being that of its query. A row has its source's modality; for Phi an output of G is a photo. Provides "synthesised" and
    "identity" (images, see `Translator`) and "translator" (G).

    A `query` of "both" is the mean of the vectors of G(s) and s, of unit length again, as the authors' code had it at first: photos are ranked by
    the mean of their two cosines, and not, as by S = 2 vectors, by the larger one, which a poor photo of the sketch may give. Raises InputError
    for it around an encoder whose vectors are not of unit length.

    Args:
        encoder: encoder Phi
        channels: filters of the first convolution of G (table 4)
        blocks: residual blocks of G (table 4)
        start: initial values of the convolutions of G: PyTorch's own, as released, or N(0, 0.02), as in CycleGAN
        residual: G(x) = x + r(x), where r is zero at first, so that training starts from Phi without synthesis
        photos: translate photos too, for the loss `photo_identity`, in joint training and in a phase of the `translator` alone
        sketches: in training, rows for the sketches themselves too
        query: vector of a query: that of the synthesised photo, of the sketch itself, or the mean of both

    >>> Synthesis(encoder=encoder, channels=2, blocks=1)(batch).images["synthesised"].shape
    torch.Size([12, 3, 32, 32])
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        channels: Annotated[int, Ge(1)] = 8,
        blocks: Annotated[int, Ge(0)] = 8,
        start: Start = "default",
        residual: bool = False,
        photos: bool = True,
        sketches: bool = True,
        query: Literal["synthesised", "sketch", "both"] = "synthesised",
    ) -> None:
        super().__init__(encoder)
        self.translator = Translator(channels=channels, blocks=blocks, start=start, residual=residual, photos=photos)
        self.provides = encoder.provides | self.translator.provides - (set() if sketches else {"identity"})
        self.sketches, self.query = sketches, query

    def forward(self, batch: Batch) -> Features:
        images = self.translator.images(batch) if self.sketches else {"synthesised": self.translator.synthesised(batch)}
        every, synthesised = torch.arange(len(batch), device=batch.modality.device), as_photos(batch, images["synthesised"])
        sketch = every[batch.modality == SKETCH]
        inputs, source = synthesised, every
        if self.training and self.sketches:
            inputs, source = concatenate(batch, synthesised[sketch]), torch.cat([every, sketch])
        elif self.query == "sketch" and not self.training:
            inputs = batch
        view = (torch.arange(len(inputs), device=every.device) >= len(batch)).to(every.dtype)
        features: Features = self.encoder(inputs)
        if self.query == "both" and not self.training and len(sketch):
            features = averaged(features, self.encoder(batch[sketch]), sketch)
        source, view = source[features.source], torch.maximum(features.view, view[features.source])
        return replace(
            features,
            modality=batch.modality[source],
            source=source,
            view=view,
            images={**features.images, **images},
            extra={**features.extra, "translator": self.translator.generator},
        )

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, S, W]."""
        return self._vectors(batch, self.encoder.query_vectors)

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, W]."""
        return self._vectors(batch, self.encoder.gallery_vectors)

    def _vectors(self, batch: Batch, vectors_of: Callable[[Batch], Tensor]) -> Tensor:
        """Vectors [B, ..., W] by a method of Phi, those of sketches as `query` says."""
        if self.query == "sketch":
            return vectors_of(batch)
        vectors = vectors_of(as_photos(batch, self.translator.synthesised(batch)))
        sketch = (batch.modality == SKETCH).nonzero()[:, 0]
        if self.query == "synthesised" or not len(sketch):
            return vectors
        return vectors.index_copy(0, sketch, mean_direction(vectors[sketch], vectors_of(batch[sketch])))


def mean_direction(one: Tensor, other: Tensor) -> Tensor:
    """(q + r) / |q + r| for vectors q and r of unit length, [..., W] each. Raises InputError for those of another length."""
    lengths = torch.cat([one, other]).norm(dim=-1)
    if not torch.allclose(lengths, torch.ones_like(lengths), atol=UNIT):
        raise InputError(
            "query = 'both' averages vectors of unit length, and those of this encoder are not: set query to 'synthesised' or 'sketch'"
        )
    return F.normalize(one + other, dim=-1)


def averaged(features: Features, sketches: Features, rows: Tensor) -> Features:
    """Features with a row an image whose `rows` [M] have the means of the embeddings [M, D] and vectors [M, V] of their own and of `sketches`."""
    embedding = (features.embedding[rows] + sketches.embedding) / 2
    vector = mean_direction(features.vector[rows], sketches.vector)
    return replace(
        features, embedding=features.embedding.index_copy(0, rows, embedding), vector=features.vector.index_copy(0, rows, vector)
    )


def as_photos(batch: Batch, images: Tensor) -> Batch:
    """The batch with other images [B, 3, H, W], all of them photos."""
    return replace(batch, images=images.to(batch.images.dtype), modality=torch.full_like(batch.modality, PHOTO))


def concatenate(one: Batch, other: Batch) -> Batch:
    """One batch after the other."""
    return Batch(*(torch.cat([getattr(one, name), getattr(other, name)]) for name in ("images", "modality", "category", "instance")))
