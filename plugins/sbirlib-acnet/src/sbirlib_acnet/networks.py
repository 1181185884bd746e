"""Generator and discriminator (ACNet, tables 4 and 5): small versions of CycleGAN's (Zhu et al. 2017)."""

from typing import Literal

import torch
from torch import Tensor, nn

from sbirlib.plugin_api import InputError

Start = Literal["default", "normal"]  # of the weights of convolutions


class Generator(nn.Module):
    """Images [B, 3, H, W] in [0, 1] to images of another domain, of the same size and range (ACNet, table 4).

    A 7x7 convolution to `channels`, two of stride 2 that double them, `blocks` residual blocks, two transposed convolutions back, and a
    7x7 convolution with tanh; instance norm without parameters. 161,923 parameters at 8 channels and 8 blocks; CycleGAN's own is 64 and 9.

    A `residual` generator gives G(x) = x + r(x), r being these layers, whose last convolution starts at zero, so that at first G(x) = x to the
    bit. As r is in (-1, 1), any pixel can become any other; G(x) may leave [0, 1], and is not clamped, for a clamp ends the gradient.
    """

    def __init__(self, *, channels: int = 8, blocks: int = 8, start: Start = "default", residual: bool = False) -> None:
        super().__init__()
        c, self.residual = channels, residual
        layers: list[nn.Module] = [nn.Conv2d(3, c, 7, padding=3, padding_mode="reflect"), *normalised(c)]
        for width in (c, 2 * c):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), *normalised(2 * width)]
        layers += [ResidualBlock(4 * c) for _ in range(blocks)]
        for width in (4 * c, 2 * c):
            layers += [nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1), *normalised(width // 2)]
        last = nn.Conv2d(c, 3, 7, padding=3, padding_mode="reflect")
        self.layers = nn.Sequential(*layers, last, nn.Tanh())
        initialise(self, start)
        if residual:
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] of the other domain, for images [B, 3, H, W]."""
        height, width = images.shape[-2:]
        if height % 4 or width % 4 or min(height, width) < 8:
            raise InputError(f"a generator takes images whose sides are multiples of 4, at least 8, got {height}x{width}: change the size")
        if len(images) == 0:  # instance norm refuses an empty batch
            return images + 0 * sum(p.sum() for p in self.parameters())
        images = images.to(next(self.parameters()).dtype)
        outputs: Tensor = self.layers(2 * images - 1)
        return images + outputs if self.residual else (outputs + 1) / 2


class ResidualBlock(nn.Module):
    """x + f(x), f two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect") for _ in range(2))
        self.layers = nn.Sequential(first, *normalised(channels), second, nn.InstanceNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """x + f(x) [B, C, H, W] of maps x [B, C, H, W]."""
        residual: Tensor = self.layers(maps)
        return maps + residual


class PatchDiscriminator(nn.Module):
    """Images [B, 3, H, W] in [0, 1] to a logit for each of their patches [B, 1, h, w] (ACNet, table 5; Isola et al. 2017).

    26x26 patches of 70x70 pixels at 224 pixels; 44,537 parameters at 8 channels.
    """

    def __init__(self, *, channels: int = 8, start: Start = "default") -> None:
        super().__init__()
        c = channels
        layers: list[nn.Module] = [nn.Conv2d(3, c, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for width, stride in ((c, 2), (2 * c, 2), (4 * c, 1)):
            layers += [nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1), *normalised(2 * width, nn.LeakyReLU(0.2))]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * c, 1, 4, padding=1))
        initialise(self, start)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of patches [B, 1, h, w], for images [B, 3, H, W]."""
        if min(images.shape[-2:]) < 32:
            raise InputError(f"a patch discriminator takes images of at least 32 pixels a side, got {list(images.shape[-2:])}")
        if len(images) == 0:
            return images.sum((1, 2, 3)) + 0 * sum(p.sum() for p in self.parameters())
        logits: Tensor = self.layers(2 * images.to(next(self.parameters()).dtype) - 1)
        return logits


def normalised(channels: int, activation: nn.Module | None = None) -> list[nn.Module]:
    """Instance norm without parameters, and an activation."""
    return [nn.InstanceNorm2d(channels), activation or nn.ReLU()]


def initialise(network: nn.Module, start: Start) -> None:
    """Initial values of a network's convolutions: PyTorch's own, as ACNet was released; or "normal", CycleGAN's N(0, 0.02) with biases of zero."""
    if start == "default":
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def at_full_precision(network: nn.Module, images: Tensor) -> Tensor:
    """Output [B, ...] of a network for images [B, 3, H, W] outside of any autocast, as losses are computed."""
    with torch.autocast(images.device.type, enabled=False):
        outputs: Tensor = network(images)
    return outputs
