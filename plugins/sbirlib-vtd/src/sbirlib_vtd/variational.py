"""Variational autoencoder of sketches: the descriptor without a dictionary."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import nn

from sbirlib.plugin_api import Batch, Encoder, Features, drawings
from sbirlib_vtd.networks import SketchDecoder, SketchEncoder, small


class Variational(Encoder):
    """z = mu + sigma N(0, I), mu and log sigma^2 linear in E(s), and the reconstruction R(z) (Kingma and Welling 2014).

    It is the descriptor of "Ours-VAE" in table 1 (Pang et al. 2019).

    The embedding [B, dim] is z, and mu in eval mode. Rows have `latent`, which is the same, `latent_mean` and `latent_log_variance` [B, dim];
    images have the `reconstruction` and its target `drawn` [B, 1, 64, 64] in [-1, 1]. Photos enter as their edge map.

    Args:
        dim: dimensions of z
        channels: filters of the first convolution
        edges: edge detector for photos; "given" for photos that are edge maps already

    >>> Variational(dim=64, channels=8).dim
    64
    """

    provides = frozenset({"latent", "latent_mean", "latent_log_variance", "reconstruction", "drawn"})

    def __init__(
        self,
        *,
        dim: Annotated[int, Ge(1)] = 256,
        channels: Annotated[int, Ge(1)] = 32,
        edges: Literal["sobel", "canny", "given"] = "sobel",
    ) -> None:
        super().__init__()
        self.dim = self.vector_dim = dim
        self.edges = edges
        self.sketch_encoder = SketchEncoder(channels=channels)
        self.mean, self.log_variance = (nn.Linear(self.sketch_encoder.width, dim) for _ in range(2))
        self.sketch_decoder = SketchDecoder(dim=dim, channels=channels)

    def forward(self, batch: Batch) -> Features:
        sketches = small(drawings(batch, self.edges)[0])
        code = self.sketch_encoder(sketches)
        mean, log_variance = self.mean(code), self.log_variance(code)
        latent = mean + (log_variance / 2).exp() * torch.randn_like(mean) if self.training else mean
        rows = {"latent": latent, "latent_mean": mean, "latent_log_variance": log_variance}
        return replace(Features.of(batch, latent, rows=rows), images={"reconstruction": self.sketch_decoder(latent), "drawn": sketches})
