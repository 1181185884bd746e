"""Synthesis of a photo from a sketch, in front of the encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from sbirlib.plugin_api import PHOTO, SKETCH, Batch, Encoder, Features, Wrapper
from sbirlib_acnet.networks import Generator


class Translator(Encoder):
    """The generator G alone, as an encoder with empty vectors, so that a phase can train it separately.

    `images["synthesised"]` [B, 3, H, W] holds G(s) for sketches, and photos as they are; `images["identity"]` holds G(p) for photos, and sketches
    as they are.

    Args:
        channels: filters of the first convolution of G
        blocks: residual blocks of G
        photos: translate photos too, for the loss `photo_identity`
    """

    dim = vector_dim = 0
    provides = frozenset({"synthesised", "identity", "translator"})

    def __init__(self, *, channels: Annotated[int, Ge(1)] = 8, blocks: Annotated[int, Ge(0)] = 8, photos: bool = True) -> None:
        super().__init__()
        self.generator, self.photos = Generator(channels=channels, blocks=blocks), photos
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
    image, a sketch's being that of G(s). A row has its source's modality; for Phi an output of G is a photo. Provides "synthesised" and "identity"
    (images, see `Translator`) and "translator" (G).

    Args:
        encoder: encoder Phi
        channels: filters of the first convolution of G (table 4)
        blocks: residual blocks of G (table 4)
        photos: translate photos too, for the loss `photo_identity`, in joint training and in a phase of the `translator` alone
        sketches: in training, rows for the sketches themselves too
        query: vector of a query: that of the synthesised photo, or of the sketch itself

    >>> Synthesis(encoder=encoder, channels=2, blocks=1)(batch).images["synthesised"].shape
    torch.Size([12, 3, 32, 32])
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        channels: Annotated[int, Ge(1)] = 8,
        blocks: Annotated[int, Ge(0)] = 8,
        photos: bool = True,
        sketches: bool = True,
        query: Literal["synthesised", "sketch"] = "synthesised",
    ) -> None:
        super().__init__(encoder)
        self.translator = Translator(channels=channels, blocks=blocks, photos=photos)
        self.provides = encoder.provides | self.translator.provides - (set() if sketches else {"identity"})
        self.sketches, self.query = sketches, query

    def forward(self, batch: Batch) -> Features:
        images = self.translator.images(batch) if self.sketches else {"synthesised": self.translator.synthesised(batch)}
        every = torch.arange(len(batch), device=batch.modality.device)
        sketch = every[batch.modality == SKETCH]
        if self.training and self.sketches:
            inputs, source = concatenate(batch, as_photos(batch, images["synthesised"])[sketch]), torch.cat([every, sketch])
            view = (torch.arange(len(inputs), device=every.device) >= len(batch)).to(every.dtype)
        else:
            inputs, source = self._searched(batch, images["synthesised"]), every
            view = torch.zeros_like(every)
        features: Features = self.encoder(inputs)
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
        return self.encoder.query_vectors(self._searched(batch))

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, W]."""
        return self.encoder.gallery_vectors(self._searched(batch))

    def _searched(self, batch: Batch, synthesised: Tensor | None = None) -> Batch:
        """The batch with the images that Phi encodes for search."""
        if self.query == "sketch":
            return batch
        return as_photos(batch, self.translator.synthesised(batch) if synthesised is None else synthesised)


def as_photos(batch: Batch, images: Tensor) -> Batch:
    """The batch with other images [B, 3, H, W], all of them photos."""
    return replace(batch, images=images.to(batch.images.dtype), modality=torch.full_like(batch.modality, PHOTO))


def concatenate(one: Batch, other: Batch) -> Batch:
    """One batch after the other."""
    return Batch(*(torch.cat([getattr(one, name), getattr(other, name)]) for name in ("images", "modality", "category", "instance")))
