"""The generative task: to draw the sketch again from an embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError
from sbirlib.interfaces import SKETCH, Features, Loss, Step

LEAST = 4  # pixels a side that decoding begins with, at least


class SketchDecoder(Loss):
    """Draws x_s from the embedding of x_s and of its photo (Pang et al. 2017, eq. 4, table 1).

        "mse"     L_D = mean over rows of |x_s - D(f)|^2 / pixels          f the L2-normalised embedding, x_s in [-1, 1]
        "norm"    L_D = mean over rows of |x_s - D(f)|_2                   (eq. 4 as printed, but for the sum over rows)

    A row's target is its own image where that is a sketch, else the first sketch of its instance in the batch; rows without one are left
    out, and without any it is zero. `size` is the side of what is drawn, to which the target is reduced; `width` the filters of the first
    block: 512 at 224 pixels in the paper. The decoder belongs to this loss, so it is never exported. `dim` is D, which the pipeline fills
    in. Raises InputError for a size that cannot be doubled from 4 pixels or more.

    >>> SketchDecoder(dim=256, size=56, width=128).decoder.side
    7
    """

    def __init__(self, *, dim: int, size: int = 224, width: int = 512, kind: str = "mse") -> None:
        super().__init__()
        if kind not in KINDS:
            raise InputError(f"kind is one of {', '.join(KINDS)}, got {kind!r}")
        self.kind, self.decoder = kind, Decoder(dim=dim, size=size, width=width)

    def forward(self, step: Step) -> Tensor:
        rows, images = targets(step.local, step.batch.modality, step.batch.instance)
        embedding = at_least_float32(step.local.embedding[rows])
        with torch.autocast(embedding.device.type, enabled=False):
            drawn = self.decoder(F.normalize(embedding, dim=1).to(self.decoder.code.weight.dtype))
            wanted = 2 * reduced(step.batch.images[images].to(drawn.dtype), self.decoder.size) - 1
            return step.mean(KINDS[self.kind](drawn, wanted))


class Decoder(nn.Module):
    """Codes [n, D] to drawings [n, 3, size, size] in [-1, 1]: a linear layer to a small map of `width` channels, blocks of transposed 4x4
    convolution, batch norm and ReLU that double the side and halve the channels, and a 4x4 convolution with tanh (table 1)."""

    def __init__(self, *, dim: int, size: int = 224, width: int = 512) -> None:
        super().__init__()
        side, blocks = size, 0
        while side % 2 == 0 and side // 2 >= LEAST and blocks < 5:
            side, blocks = side // 2, blocks + 1
        if blocks == 0:
            raise InputError(f"a decoder draws squares whose side is a multiple of 2, at least {2 * LEAST}, got size={size}")
        if width < 1 or width % 2 ** (blocks - 1):
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
        if len(codes) == 0:  # batch norm refuses none
            return codes.new_zeros(0, 3, self.size, self.size) + 0 * sum(p.sum() for p in self.parameters()) + 0 * codes.sum()
        drawn: Tensor = self.layers(self.code(codes).unflatten(1, (self.width, self.side, self.side)))
        return drawn


def targets(features: Features, modality: Tensor, instance: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [n] that have a sketch to be drawn, and that sketch [n] among the batch's images, of `modality` and `instance` [B]."""
    sketch = modality == SKETCH
    own = (features.instance[:, None] == instance) & (instance >= 0) & sketch
    first = torch.where(own.any(1), own.int().argmax(1) if own.shape[1] else features.source, -1)
    image = torch.where(sketch[features.source], features.source, first)
    rows = (image >= 0).nonzero()[:, 0]
    return rows, image[rows]


def reduced(images: Tensor, size: int) -> Tensor:
    """Images [n, 3, H, W] as [n, 3, size, size], smoothed where they shrink."""
    if images.shape[-2:] == (size, size) or len(images) == 0:
        return images if len(images) else images.new_zeros(0, 3, size, size)
    smaller: Tensor = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return smaller


def squared_error(drawn: Tensor, wanted: Tensor) -> Tensor:
    """The mean squared error of each drawing [n]."""
    return (drawn - wanted).square().flatten(1).mean(1)


def norm(drawn: Tensor, wanted: Tensor) -> Tensor:
    """The Euclidean distance of each drawing [n] from its target (eq. 4)."""
    distance: Tensor = torch.linalg.vector_norm((drawn - wanted).flatten(1), dim=1)
    return distance


KINDS = {"mse": squared_error, "norm": norm}
