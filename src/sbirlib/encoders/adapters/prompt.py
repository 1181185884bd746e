"""Visual prompts: learnt tokens of each modality, before the blocks of a vision transformer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.encoders.adapters.adapter import backbones_of
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features, Wrapper


class Prompt(Wrapper):
    """A vision transformer with `count` learnt tokens for sketches and as many for photos (Jia et al. 2022, eq. 4; Sain et al. 2023, section 4.2).

    They stand after the class token, enter the first block with the image's tokens, and leave after the last, so that pooling does not see them.
    Positions are not added to them. They are random at first, so this is not the encoder at first; with `count` 0 it is. Raises InputError for a
    backbone without a list of blocks over tokens [B, L, C], and for an encoder of several backbones.

    Args:
        encoder: encoder whose backbone is a vision transformer of timm
        count: tokens of each modality

    >>> tower = part("encoder", {"name": "backbone", "backbone": "vit_tiny_patch16_224", "pretrained": False})
    >>> Prompt(encoder=tower, count=3).prompts.shape
    torch.Size([2, 3, 192])
    """

    def __init__(self, *, encoder: Encoder, count: Annotated[int, Ge(0)] = 3) -> None:
        super().__init__(encoder)
        networks = backbones_of(encoder)
        root, network = next(iter(networks.items()))
        blocks = getattr(network, "blocks", None)
        if len(networks) > 1 or not isinstance(blocks, nn.Sequential | nn.ModuleList) or not hasattr(network, "num_prefix_tokens"):
            raise InputError("prompts need one backbone that is a vision transformer of timm, such as vit_small_patch16_224")
        self.first, self.last = f"{root}.blocks.0", f"{root}.blocks.{len(blocks) - 1}"
        self.prefix, self.count = int(network.num_prefix_tokens), count  # type: ignore[arg-type]
        self.prompts = nn.Parameter(0.02 * torch.randn(2, count, int(network.embed_dim)))  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> Features:
        with self.prompted(batch.modality):
            return super().forward(batch)

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, S, W]."""
        with self.prompted(batch.modality):
            return super().query_vectors(batch)

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, W]."""
        with self.prompted(batch.modality):
            return super().gallery_vectors(batch)

    @contextmanager
    def prompted(self, modality: Tensor) -> Iterator[None]:
        """Block in which the prompts of each image's modality [B] go through the blocks with its tokens."""

        def enter(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            tokens, *others = inputs
            own = self.prompts[modality].to(tokens.dtype)
            return torch.cat([tokens[:, : self.prefix], own, tokens[:, self.prefix :]], 1), *others

        def leave(_: nn.Module, __: Any, tokens: Tensor) -> Tensor:
            return torch.cat([tokens[:, : self.prefix], tokens[:, self.prefix + self.count :]], 1)

        with (
            self.encoder.get_submodule(self.first).register_forward_pre_hook(enter),
            self.encoder.get_submodule(self.last).register_forward_hook(leave),
        ):
            yield
