"""Conditional variational autoencoder: regression of a photo's features from its sketch's."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import SKETCH, Batch, Encoder, Features, at_least_float32

Size = Annotated[int, Ge(1)]


class ConditionalVae(Encoder):
    """A variational autoencoder of photo features under the condition of a sketch's (Yelamarthi et al. 2018; "CVAE-Regress" of Pang et al. 2019).

        training    (mu, log sigma^2) = Q(x_p, x_s),  z = mu + sigma N(0, I),  x' = R(z, x_s)
        eval mode   x' = the mean of R(z, x_s) over `draws` stored draws of z from N(0, I)

    x is the vector of `encoder`, x_s a sketch's and x_p that of its photo in the batch. A sketch is searched by x' of unit length, a photo by
    x_p. Q and R have one hidden layer. Rows have x' as `regressed`, x_s as its `condition` and x_p as its `target` [N, V], `paired` [N], the mask
    of sketches with a photo in the batch, and `latent`, `latent_mean` and `latent_log_variance` [N, latent], zero for others.

    Args:
        encoder: encoder of x
        latent: dimensions of z
        hidden: hidden units of Q and of R
        draws: samples of z in eval mode

    >>> encoder.vector_dim, ConditionalVae(encoder=encoder).vector_dim
    (16, 16)
    """

    provides = frozenset({"regressed", "condition", "target", "paired", "latent", "latent_mean", "latent_log_variance"})
    noise: Tensor

    def __init__(self, *, encoder: Encoder, latent: Size = 256, hidden: Size = 1024, draws: Size = 20) -> None:
        super().__init__()
        self.encoder = encoder
        width = self.dim = self.vector_dim = encoder.vector_dim
        self.posterior = nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent + width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.register_buffer("noise", torch.randn(draws, latent))

    def forward(self, batch: Batch) -> Features:
        inner: Features = self.encoder(batch)
        x = at_least_float32(inner.vector)
        sketch = inner.modality == SKETCH
        photo, paired = photos_of(inner)
        target = x[photo]
        mean, log_variance = (self.posterior(torch.cat([target, x], 1)) * paired[:, None]).chunk(2, dim=1)
        if self.training:
            latent = (mean + (log_variance / 2).exp() * torch.randn_like(mean)) * paired[:, None]
            regressed = self.decoder(torch.cat([latent, x], 1))
        else:
            latent = mean
            regressed = torch.stack([self.decoder(torch.cat([z.expand(len(x), -1), x], 1)) for z in self.noise.to(x)]).mean(0)
        vector = torch.where(sketch[:, None], F.normalize(regressed, dim=1), x)
        rows = {"regressed": regressed, "condition": x, "target": target, "paired": paired, "latent": latent}
        rows |= {"latent_mean": mean, "latent_log_variance": log_variance}
        return Features.of(batch, vector, vector=vector, rows=rows)


def photos_of(features: Features) -> tuple[Tensor, Tensor]:
    """Row of each row's photo in the batch [N] (the first of its instance; itself without one), and the mask of sketches with a photo [N]."""
    sketch = features.modality == SKETCH
    same = (features.instance[:, None] == features.instance) & (features.instance >= 0)[:, None] & sketch[:, None] & ~sketch
    paired = same.any(1) if len(sketch) else sketch
    own = torch.arange(len(sketch), device=sketch.device)
    return (torch.where(paired, same.to(torch.uint8).argmax(1), own) if len(sketch) else own), paired
