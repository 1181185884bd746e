"""Synthesis: a sketch becomes a photo before it is encoded."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Wrapper
from sbirlib_acnet.networks import Generator


class Translator(Encoder):
    """The generator alone, as an encoder of no numbers, so that a phase can train it by itself.

    `images["synthesised"]` [B, 3, H, W] holds G(s) for sketches and photos as they are; where `photos`, `images["identity"]` holds
    G(p) for photos and sketches as they are.
    """

    dim = vector_dim = 0
    provides = frozenset({"synthesised", "identity", "translator"})

    def __init__(self, *, channels: int = 8, blocks: int = 8, photos: bool = True) -> None:
        super().__init__()
        self.generator, self.photos = Generator(channels=channels, blocks=blocks), photos
        if not photos:
            self.provides = self.provides - {"identity"}

    def forward(self, batch: Batch) -> Features:
        nothing = batch.images.new_zeros(len(batch), 0)
        return replace(Features.of(batch, nothing, vector=nothing), images=self.images(batch), extra={"translator": self.generator})

    def images(self, batch: Batch) -> dict[str, Tensor]:
        """What is made of the batch's images, an entry for each."""
        if self.photos:
            made, sketch = self.generator(batch.images), (batch.modality == SKETCH)[:, None, None, None]
            return {"synthesised": torch.where(sketch, made, batch.images), "identity": torch.where(sketch, batch.images, made)}
        return {"synthesised": self.synthesised(batch)}

    def synthesised(self, batch: Batch) -> Tensor:
        """The batch's images, sketches as synthesised photos."""
        sketch = batch.modality == SKETCH
        return batch.images.float().index_put((sketch.nonzero()[:, 0],), self.generator(batch.images[sketch]).float())


class Synthesis(Wrapper):
    """A sketch-to-photo generator G in front of any encoder Phi (ACNet, figure 2): a sketch is searched as Phi(G(s)), a photo as Phi(p).

    In training it gives a row for each sketch and photo (view 0), and one for each synthesised photo (view 1); with `sketches` false, and
    outside of training, one row for each image, a sketch's being that of G(s). A row has its source's modality; Phi is told that what G
    made is a photo. `query="sketch"` searches Phi(s) instead. G has `channels` and `blocks` (table 4); `photos` also translates photos,
    which `photo_identity` needs, in joint training and in a phase of the `translator` alone. Provides "synthesised" and "identity" (images,
    see `Translator`) and "translator" (G).

    >>> encoder = Synthesis(encoder={"name": "backbone", "backbone": "resnet18", "pretrained": False})    # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        channels: int = 8,
        blocks: int = 8,
        photos: bool = True,
        sketches: bool = True,
        query: str = "synthesised",
    ) -> None:
        super().__init__(encoder)
        if query not in ("synthesised", "sketch"):
            raise InputError(f"query is 'synthesised' or 'sketch', got {query!r}")
        self.translator = Translator(channels=channels, blocks=blocks, photos=photos)
        self.provides = encoder.provides | self.translator.provides - (set() if sketches else {"identity"})
        self.sketches, self.query = sketches, query

    def forward(self, batch: Batch) -> Features:
        images = self.translator.images(batch) if self.sketches else {"synthesised": self.translator.synthesised(batch)}
        every = torch.arange(len(batch), device=batch.modality.device)
        drawn = every[batch.modality == SKETCH]
        if self.training and self.sketches:
            seen, source = together(batch, photographed(batch, images["synthesised"])[drawn]), torch.cat([every, drawn])
            view = (torch.arange(len(seen), device=every.device) >= len(batch)).to(every.dtype)
        else:
            seen, source = self._searched(batch, images["synthesised"]), every
            view = torch.zeros_like(every)
        features: Features = self.encoder(seen)
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
        return self.encoder.query_vectors(self._searched(batch))

    def gallery_vectors(self, batch: Batch) -> Tensor:
        return self.encoder.gallery_vectors(self._searched(batch))

    def _searched(self, batch: Batch, synthesised: Tensor | None = None) -> Batch:
        """The images as they are searched."""
        if self.query == "sketch":
            return batch
        return photographed(batch, self.translator.synthesised(batch) if synthesised is None else synthesised)


def photographed(batch: Batch, images: Tensor) -> Batch:
    """The batch with other images, all of which are photos."""
    return replace(batch, images=images.to(batch.images.dtype), modality=torch.full_like(batch.modality, PHOTO))


def together(one: Batch, other: Batch) -> Batch:
    return Batch(*(torch.cat([getattr(one, name), getattr(other, name)]) for name in ("images", "modality", "category", "instance")))
