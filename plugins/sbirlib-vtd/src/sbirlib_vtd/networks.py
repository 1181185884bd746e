"""Autoencoder of sketches of 64 x 64 pixels (Pang et al. 2019, section 4.1)."""

import torch.nn.functional as F
from torch import Tensor, nn

SIZE, HALVINGS = 64, 5
SIDE = SIZE // 2**HALVINGS


class SketchEncoder(nn.Module):
    """Sketches [B, 1, 64, 64] to codes [B, width]: five convolutions of stride 2 and one of 1x1, each with batch norm and ReLU."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = 1
        for block in range(HALVINGS):
            filters = channels * min(2**block, 8)
            layers += [nn.Conv2d(last, filters, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
            last = filters
        self.layers = nn.Sequential(*layers, nn.Conv2d(last, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU())
        self.width = last * SIDE * SIDE
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(
                    layer.weight, nonlinearity="relu"
                )  # torch's default gives all sketches nearly the same code at first

    def forward(self, sketches: Tensor) -> Tensor:
        """Codes [B, width] of sketches [B, 1, 64, 64]."""
        codes: Tensor = self.layers(sketches).flatten(1)
        return codes


class SketchDecoder(nn.Module):
    """Descriptors [B, M] to sketches [B, 1, 64, 64] in [-1, 1]: a 1x1 convolution, then five of stride 1/2, with batch norm and ReLU, and tanh."""

    def __init__(self, *, dim: int, channels: int) -> None:
        super().__init__()
        last = channels * 8
        self.first = nn.Linear(dim, last * SIDE * SIDE, bias=False)  # a 1x1 convolution of a map of one cell, whose channels become cells
        layers: list[nn.Module] = [nn.BatchNorm2d(last), nn.ReLU()]
        for block in reversed(range(HALVINGS)):
            filters = channels * min(2**block, 8)
            layers += [nn.ConvTranspose2d(last, filters, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
            last = filters
        self.layers = nn.Sequential(*layers, nn.Conv2d(last, 1, 1), nn.Tanh())

    def forward(self, descriptors: Tensor) -> Tensor:
        """Sketches [B, 1, 64, 64] of descriptors [B, M]."""
        sketches: Tensor = self.layers(self.first(descriptors).unflatten(1, (-1, SIDE, SIDE)))
        return sketches


def small(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [0, 1] as input of the autoencoder: grey [B, 1, 64, 64] in [-1, 1], antialiased."""
    grey = images.mean(1, keepdim=True)
    if grey.shape[-2:] != (SIZE, SIZE) and len(grey):
        grey = F.interpolate(grey, (SIZE, SIZE), mode="bilinear", antialias=True)
    elif not len(grey):
        grey = grey.new_zeros(0, 1, SIZE, SIZE)
    return 2 * grey - 1
