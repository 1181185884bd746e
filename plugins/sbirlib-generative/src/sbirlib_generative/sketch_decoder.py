"""Generative task: reconstruction of the sketch from an embedding."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import SKETCH, Features, InputError, Loss, Step, at_least_float32, world_size

LEAST = 4  # smallest side of the first map, in pixels


class SketchDecoder(Loss):
    """Reconstruction of the sketch x_s from the embedding of x_s and of its photo (Pang et al. 2017, eq. 4, table 1).

        "mse"     L_D = mean over rows of |x_s - D(f)|^2 / pixels          f the L2-normalised embedding, x_s in [-1, 1]
        "norm"    L_D = mean over rows of |x_s - D(f)|_2                   (eq. 4 as printed, but for the sum over rows)

    A row's target is its own image where that is a sketch, else the last sketch of its instance before it in the batch, or without one the first
    after it; rows without one are left out, and the loss is zero without any. With `target` "shuffled" it is the sketch of another instance: a
    control for an experiment, in which drawing tells nothing of the image. The decoder belongs to this loss, so it is never exported. Raises
    InputError for a size that cannot be doubled from 4 pixels or more.

    Args:
        dim: width D of the embedding, which training fills in
        size: side of the reconstruction in pixels, to which the target is resized; 224 in the paper
        width: filters of the first block; 512 in the paper
        kind: mean squared error, or the Euclidean norm as printed
        target: sketch of the row's own instance, or of another one in the batch

    >>> SketchDecoder(dim=256, size=56, width=128).decoder.side
    7
    """

    needs = frozenset({"images"})

    def __init__(
        self,
        *,
        dim: Annotated[int, Ge(1)],
        size: Annotated[int, Ge(2 * LEAST)] = 224,
        width: Annotated[int, Ge(1)] = 512,
        kind: Literal["mse", "norm"] = "mse",
        target: Literal["own", "shuffled"] = "own",
    ) -> None:
        super().__init__()
        self.kind, self.target, self.decoder = kind, target, Decoder(dim=dim, size=size, width=width)

    def forward(self, step: Step) -> Tensor:
        """Mean over the rows [N, D] that have a target among the images [B, 3, H, W]: a scalar []."""
        rows, images = targets(step.local, step.batch.modality, step.batch.instance)
        if self.target == "shuffled":
            rows, images = shuffled(rows, images, step.batch.instance)
        embedding = at_least_float32(step.local.embedding[rows])
        with torch.autocast(embedding.device.type, enabled=False):
            sketches = self.decoder(F.normalize(embedding, dim=1).to(self.decoder.code.weight.dtype))
            originals = 2 * resized(step.batch.images[images].to(sketches.dtype), self.decoder.size) - 1
            return step.mean(KINDS[self.kind](sketches, originals))


class Decoder(nn.Module):
    """Codes [N, D] to sketches [N, 3, S, S], S the size, in [-1, 1]: a linear layer to a small map of `width` channels, blocks of transposed 4x4
    convolution, batch norm and ReLU that double the side and halve the channels, and a 4x4 convolution with tanh (table 1)."""

    def __init__(self, *, dim: int, size: int = 224, width: int = 512) -> None:
        super().__init__()
        side, blocks = size, 0
        while side % 2 == 0 and side // 2 >= LEAST and blocks < 5:
            side, blocks = side // 2, blocks + 1
        if blocks == 0:
            raise InputError(f"a decoder draws squares whose side is a multiple of 2, at least {2 * LEAST}, got size={size}")
        if width % 2 ** (blocks - 1):
            raise InputError(f"a decoder of {blocks} blocks halves its channels {blocks - 1} times, which width={width} does not allow")
        self.size, self.side, self.width = size, side, width
        self.code = nn.Linear(dim, width * side * side)
        layers: list[nn.Module] = []
        channels = width
        for block in range(blocks):
            filters = width // 2**block
            layers += [nn.ConvTranspose2d(channels, filters, 4, stride=2, padding=1), nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 3, 4, padding="same"), nn.Tanh())

    def forward(self, codes: Tensor) -> Tensor:
        """Sketches [N, 3, S, S] of codes [N, D], S the size."""
        if len(codes) == 0 and world_size() == 1:  # batch norm refuses an empty batch, unless other processes have more
            return codes.new_zeros(0, 3, self.size, self.size) + 0 * sum(p.sum() for p in self.parameters()) + 0 * codes.sum()
        sketches: Tensor = self.layers(self.code(codes).unflatten(1, (self.width, self.side, self.side)))
        return sketches


def targets(features: Features, modality: Tensor, instance: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [M] with a target sketch, and that sketch's index [M] among the batch's images, of `modality` and `instance` [B]."""
    sketch = modality == SKETCH
    own = (features.instance[:, None] == instance) & (instance >= 0) & sketch
    place = torch.arange(len(modality), device=modality.device)
    nearness = torch.where(place <= features.source[:, None], place, -place).masked_fill(~own, -len(modality) - 1)
    near = torch.where(own.any(1), nearness.argmax(1) if own.shape[1] else features.source, -1)
    image = torch.where(sketch[features.source], features.source, near)
    rows = (image >= 0).nonzero()[:, 0]
    return rows, image[rows]


def shuffled(rows: Tensor, images: Tensor, instance: Tensor) -> tuple[Tensor, Tensor]:
    """The rows [M] of target sketches `images` [M], each with the first target of another instance, among images of `instance` [B].

    Of K instances in order the i-th has the target of the one K // 2 places on, cyclically: a permutation without fixed point. No row is left
    where K is 1. A sketch without an instance is one by itself.
    """
    own = torch.where(instance[images] >= 0, instance[images], -1 - images)
    instances, place = own.unique(return_inverse=True)
    count = len(instances)
    if count < 2:
        return rows[:0], images[:0]
    first = torch.full_like(instances, len(instance)).scatter_reduce_(0, place, images, "amin")
    return rows, first[(place + count // 2) % count]


def resized(images: Tensor, size: int) -> Tensor:
    """Images [N, 3, H, W] as [N, 3, S, S], S the size, antialiased."""
    if images.shape[-2:] == (size, size) or len(images) == 0:
        return images if len(images) else images.new_zeros(0, 3, size, size)
    smaller: Tensor = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return smaller


def squared_error(sketches: Tensor, originals: Tensor) -> Tensor:
    """Mean squared error of each sketch [N], sketches and originals [N, 3, S, S]."""
    return (sketches - originals).square().flatten(1).mean(1)


def norm(sketches: Tensor, originals: Tensor) -> Tensor:
    """Euclidean distance [N] of each sketch from its original, both [N, 3, S, S] (eq. 4)."""
    distance: Tensor = torch.linalg.vector_norm((sketches - originals).flatten(1), dim=1)
    return distance


KINDS = {"mse": squared_error, "norm": norm}
