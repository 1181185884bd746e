"""A variational autoencoder of sketches: the descriptor without a dictionary."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from sbirlib.edges import DETECTORS, drawings
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Batch, Encoder, Features
from sbirlib_vtd.networks import SketchDecoder, SketchEncoder, small


class Variational(Encoder):
    """z = mu + sigma N(0, I), mu and log sigma^2 linear in E(s), and R(z) draws the sketch again (Kingma and Welling 2014).

    "Ours-VAE" of table 1 (Pang et al. 2019) takes it for the descriptor.

    The embedding [B, dim] is z, and mu in eval mode. Gives `latent`, which is that, `latent_mean` and `latent_log_variance` [B, dim], and for
    each image `reconstruction` and `drawn` [B, 1, 64, 64] in [-1, 1]. Photos enter as their edge map, by `edges`.

    >>> Variational(dim=64, channels=8).dim
    64
    """

    provides = frozenset({"latent", "latent_mean", "latent_log_variance", "reconstruction", "drawn"})

    def __init__(self, *, dim: int = 256, channels: int = 32, edges: Literal["sobel", "canny", "given"] = "sobel") -> None:
        super().__init__()
        if dim < 1 or channels < 1:
            raise InputError(f"variational: dim and channels must be at least 1, got {dim} and {channels}")
        if edges not in DETECTORS:
            raise InputError(f"variational: unknown edges {edges!r}{nearest(edges, DETECTORS)}")
        self.dim = self.vector_dim = dim
        self.edges = edges
        self.sketch_encoder = SketchEncoder(channels=channels)
        self.mean, self.log_variance = (nn.Linear(self.sketch_encoder.width, dim) for _ in range(2))
        self.sketch_decoder = SketchDecoder(dim=dim, channels=channels)

    def forward(self, batch: Batch) -> Features:
        drawn = small(drawings(batch, self.edges)[0])
        code = self.sketch_encoder(drawn)
        mean, log_variance = self.mean(code), self.log_variance(code)
        latent = mean + (log_variance / 2).exp() * torch.randn_like(mean) if self.training else mean
        rows = {"latent": latent, "latent_mean": mean, "latent_log_variance": log_variance}
        return replace(Features.of(batch, latent, rows=rows), images={"reconstruction": self.sketch_decoder(latent), "drawn": drawn})
