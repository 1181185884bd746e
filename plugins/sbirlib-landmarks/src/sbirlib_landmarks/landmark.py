"""Encoder with landmark pooling and a branch of category filters."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import Backbone, Batch, Encoder, Features, InputError, Wrapper, at_least_float32, drawings
from sbirlib_landmarks.points import farthest_points, grid_points
from sbirlib_landmarks.pooling import Projection, landmark_pool, own_cells, project


class Landmark(Wrapper):
    """A backbone whose map is pooled at N landmarks on the lines of an image, with learnt offsets, and a branch of K filters, one a category
    (Zhang et al. 2019).

        f   = the mean over n of x(l_n + dl_n)        x the map of `encoder`, eq. 1; the embedding is the encoder's of f
        f_s = max over categories of psi(F_k * x)     one value a cell; with `descriptor` "categories" the maximum over cells of each

    Landmarks are spread over the strokes of a sketch, or over the edges of a photo, by farthest-point sampling, and projected to the map, where
    an offset is read at the cell nearest to its landmark. The vector is [embedding, f_s], L2-normalised. Photos enter as their edge map, dark
    on white. `points` other than "lines" are controls, which look at no line.

    Takes images [B, 3, H, W] in [0, 1]. Gives the embedding [B, D] and, for each image, its `responses` [B, K, H', W'], their means over the map
    `class_logits` [B, K], `points` (x, y) [B, N, 2] and `moved`, the same after their offsets, in pixels, and the `filters` [K, C, 3, 3]. Raises
    InputError around an encoder that has no map of its embedding's width, or no stage of that stride, and for more landmarks than cells.

    Args:
        encoder: a backbone (or cse) with a convolutional map
        stage: stride, in pixels, of the stage whose map is pooled, the last of that stride; none pools the backbone's last map
        landmarks: number N of landmarks; 0 pools the whole map
        points: where landmarks start: on lines, at random pixels that are the same in every image, or on a regular grid
        projection: place of a pixel on the map: its centre between cells, the cell it lies in, or, as printed, the ceiling
        offsets: move each landmark by a 1x1 convolution's output in its cell, zero at first
        filters: number K of categories in training; 0 leaves the branch out
        responses: activation psi of the responses
        descriptor: f_s as the maximum over categories in each cell of a grid, or over cells of each category
        grid: cells a side of the grid of f_s
        edges: edge detector for photos; "given" for photos that are edge maps already (the transform's `photo_lines`)
        flip: in eval mode, average embedding, f_s and class logits over the image and its mirror image

    >>> Landmark(encoder=Backbone(backbone="resnet18", dim=0, pretrained=False), landmarks=16, filters=0).vector_dim
    512
    """

    fractions: Tensor  # of the image's sides, of random points (x, y) [N, 2]

    def __init__(
        self,
        *,
        encoder: Encoder,
        stage: Annotated[int, Ge(1)] | None = None,
        landmarks: Annotated[int, Ge(0)] = 30,
        points: Literal["lines", "random", "grid"] = "lines",
        projection: Projection = "centre",
        offsets: bool = True,
        filters: Annotated[int, Ge(0)] = 250,
        responses: Literal["identity", "relu"] = "identity",
        descriptor: Literal["cells", "categories"] = "cells",
        grid: Annotated[int, Ge(1)] = 8,
        edges: Literal["sobel", "canny", "given"] = "sobel",
        flip: bool = True,
    ) -> None:
        channels = channels_of(encoder, stage)
        super().__init__(encoder)
        self.channels, self.name = channels, cast(Backbone, encoder).name
        self.landmarks, self.edges, self.descriptor, self.grid, self.flip = landmarks, edges, descriptor, grid, flip
        self.points, self.projection, self.rectified = points, projection, responses == "relu"
        if points == "random":
            self.register_buffer("fractions", torch.rand(landmarks, 2))
        self.offsets = nn.Conv2d(channels, 2 * landmarks, 1) if offsets and landmarks else None
        if self.offsets is not None:
            nn.init.zeros_(self.offsets.weight)
            nn.init.zeros_(self.offsets.bias)  # type: ignore[arg-type]
        self.filters = nn.Conv2d(channels, filters, 3, padding=1, bias=False) if filters else None
        responses_dim = 0 if not filters else grid * grid if descriptor == "cells" else filters
        self.vector_dim = self.dim + responses_dim
        branch = {"responses", "class_logits", "filters"} if filters else set()
        self.provides = frozenset(branch | ({"points", "moved"} if landmarks else set()))

    def forward(self, batch: Batch) -> Features:
        sketches, lines = drawings(batch, self.edges)
        tensors, images = self._encode(sketches, lines, batch.modality)
        if self.flip and not self.training:
            mirrored, _ = self._encode(sketches.flip(-1), lines.flip(-1), batch.modality)
            tensors = {name: (value + mirrored[name]) / 2 for name, value in tensors.items()}
        embedding, extra = tensors.pop("embedding"), {} if self.filters is None else {"filters": self.filters.weight}
        parts = [embedding] if self.filters is None else [embedding, tensors.pop("descriptor")]
        vector = F.normalize(torch.cat([at_least_float32(value) for value in parts], 1), dim=1)
        return replace(Features.of(batch, embedding, vector=vector, rows=tensors, extra=extra), images=images)

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, 1, V]."""
        return self.gallery_vectors(batch)[:, None, :]

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, V]."""
        vectors: Tensor = self(batch).vector
        return vectors

    def places(self, features: Tensor, lines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points (x, y) of images [B, N, 2] in pixels, their places on the map, and their offsets in cells, from the map [B, C, H', W'] and
        the mask of lines, bool [B, H, W]."""
        cells = (features.shape[2], features.shape[3])
        if self.landmarks > cells[0] * cells[1]:
            raise InputError(
                f"{self.landmarks} landmarks are more than the {cells[0]} x {cells[1]} cells of the map of {self.name}: take fewer landmarks, "
                "larger images, an earlier stage, or the backbone's option output_stride=16"
            )
        points = self.starts(lines)
        places = project(points, (lines.shape[1], lines.shape[2]), cells, self.projection)
        if self.offsets is None:
            return points, places, torch.zeros_like(places)
        own = own_cells(places, cells)[:, :, None, None].expand(-1, -1, 2, 1)
        moves = self.offsets(features).flatten(2).unflatten(1, (self.landmarks, 2))
        return points, places, at_least_float32(moves.gather(3, own)[..., 0])

    def starts(self, lines: Tensor) -> Tensor:
        """Pixels (x, y) [B, N, 2] of the landmarks before their offsets, from the mask of lines, bool [B, H, W]."""
        if self.points == "lines":
            return farthest_points(lines, self.landmarks)
        height, width = lines.shape[1:]
        if self.points == "grid":
            points = grid_points(self.landmarks, height, width).to(lines.device)
        else:
            points = (self.fractions * torch.tensor([width, height], device=lines.device)).floor()
        return points.expand(len(lines), -1, -1)

    def response_descriptor(self, responses: Tensor) -> Tensor:
        """f_s of responses [B, K, H', W']: the maximum over categories in each cell [B, grid^2], or over cells of each category [B, K]."""
        if self.descriptor == "categories":
            return responses.amax((2, 3))
        return F.adaptive_max_pool2d(responses.amax(1, keepdim=True), self.grid).flatten(1)

    def _encode(self, images: Tensor, lines: Tensor, modality: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Embedding [B, D], and of the branch the descriptor f_s and the class logits [B, K], by name; and the named tensors of each image."""
        encoder, tensors = cast(Backbone, self.encoder), dict[str, Tensor]()
        features = encoder.feature_map(images, modality)
        if features.ndim != 4 or features.shape[1] != self.channels:
            raise InputError(
                f"landmark pools a map [B, {self.channels}, H, W], and {self.name} gives {list(features.shape)}: choose a convolutional backbone"
            )
        if self.landmarks:
            points, places, offsets = self.places(features, lines)
            cell = torch.tensor([images.shape[3] / features.shape[3], images.shape[2] / features.shape[2]], device=images.device)
            tensors = {"points": points, "moved": points + offsets * cell}
            pooled = landmark_pool(at_least_float32(features), places + offsets)
        else:
            pooled = at_least_float32(features).mean((2, 3))
        rows = {"embedding": encoder.embedding(pooled)}
        if self.filters is not None:
            responses = self.filters(features).relu() if self.rectified else self.filters(features)
            tensors["responses"] = responses
            rows |= {"descriptor": self.response_descriptor(responses), "class_logits": at_least_float32(responses).mean((2, 3))}
        return rows, tensors


def channels_of(encoder: Encoder, stage: int | None) -> int:
    """Channels C of the map that an encoder's embedding reads, once it gives the map of `stage`; InputError where it has none."""
    if not isinstance(encoder, Backbone):
        raise InputError(f"landmark pools the map of a backbone, and {type(encoder).__name__} gives none: put it around backbone or cse")
    if stage is not None:
        encoder.select_stage(stage)
    elif not hasattr(encoder.backbone, "num_features") or not hasattr(encoder.backbone, "forward_features"):
        raise InputError(f"landmark pools the map of a backbone, and {encoder.name} has no forward_features: choose a timm model")
    width = encoder.embedding.in_features if isinstance(encoder.embedding, nn.Linear) else encoder.dim
    if stage is None and width != (channels := int(encoder.backbone.num_features)):  # type: ignore[arg-type]
        raise InputError(
            f"the map of {encoder.name} has {channels} channels, and its embedding reads {width}: pool a stage (stage = 16), or choose another "
            "backbone"
        )
    return width
