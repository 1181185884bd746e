"""Encoder of a map pooled in the cells of a grid, which keeps where things are."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from sbirlib.distance import at_least_float32
from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features

LEAST = 1e-6  # eps of the generalised mean, whose gradient is not finite at 0


class GridPool(Encoder):
    """A backbone whose map is averaged in each of cells x cells parts of the image; the embedding is all of them in a row.

        f(x) = [e(x_1), ..., e(x_(cells^2))],    x_i the mean of the map over part i, e the backbone's own embedding (none where its dim is 0)

    A global mean holds what is in an image, which is enough to tell categories; instances differ in where it is (one level of a spatial pyramid,
    Lazebnik et al. 2006). With a `power` p the mean over a part's n cells c is the generalised one (GeM, Radenovic et al. 2019, eq. 3),

        x_i = (1/n sum_c max(x_c, eps)^p)^(1/p)

    the usual mean at p = 1 and the largest value at infinity; p is then trained, one for all channels. Parts of a map that they do not divide
    overlap by a cell, as in adaptive pooling. Takes images [B, 3, H, W] in [0, 1], gives an embedding [B, D], D = cells^2 times the width of e.
    Raises InputError around an encoder that is no backbone, or has no stage of that stride.

    Args:
        encoder: a backbone with a convolutional map
        stage: stride, in pixels, of the stage whose map is pooled, the last of that stride; none pools the backbone's last map
        cells: parts of the image along each side
        power: initial power p of the generalised mean; none takes the usual mean

    >>> GridPool(encoder=Backbone(backbone="resnet18", dim=0, pretrained=False), stage=16, cells=4).dim
    4096
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        stage: Annotated[int, Ge(1)] | None = None,
        cells: Annotated[int, Ge(1)] = 4,
        power: Annotated[float, Interval(ge=1, le=100)] | None = None,
    ) -> None:
        if not isinstance(encoder, Backbone):
            raise InputError(f"grid_pool pools the map of a backbone, and {type(encoder).__name__} gives none: put it around backbone")
        if stage is not None:
            encoder.select_stage(stage)
        super().__init__()
        self.encoder = encoder
        self.cells, self.dim = cells, cells * cells * encoder.dim
        self.vector_dim = self.dim
        self.power = None if power is None else nn.Parameter(torch.tensor(power))

    def forward(self, batch: Batch) -> Features:
        features = at_least_float32(self.encoder.feature_map(batch.images, batch.modality))
        rows, columns = (averages(size, self.cells).to(features) for size in features.shape[2:])
        if self.power is not None:
            features = features.clamp(min=LEAST).pow(self.power)
        means = torch.einsum("ih,bchw,jw->bijc", rows, features, columns)
        parts = self.encoder.embedding(means if self.power is None else means.pow(1 / self.power))
        return Features.of(batch, parts.flatten(1))


def averages(size: int, cells: int) -> Tensor:
    """Weights [cells, size] of the means over `cells` parts of a side of `size`: part i from floor(i size / cells) to ceil((i + 1) size / cells).

    >>> averages(5, 2)
    tensor([[0.3333, 0.3333, 0.3333, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.3333, 0.3333, 0.3333]])
    """
    weights = torch.zeros(cells, size)
    for i in range(cells):
        part = slice(i * size // cells, -(-(i + 1) * size // cells))
        weights[i, part] = 1 / (part.stop - part.start)
    return weights
