"""Line detection: the strokes of a sketch (threshold) and the edges of a photo (Sobel, Canny)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import PHOTO, Batch

INK = 0.5  # grey below which a pixel is a stroke
BLUR = (1.0, 4.0, 6.0, 4.0, 1.0)  # a Gaussian of one pixel, in sixteenths
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
FLAT = 0.02  # gradient, of the range of grey, below which the steepest edge of an image is none
LOW, HIGH = 0.1, 0.25  # Canny's thresholds for weak and strong edges, relative to the steepest (Canny 1986)
EDGE = 0.3  # value of an edge map above which a pixel is a line


def strokes(images: Tensor) -> Tensor:
    """Mask of ink [B, H, W], bool: the pixels darker than INK of images [B, 3, H, W] in [0, 1] with dark lines on white."""
    return images.mean(1) < INK


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Grey gradients along x and y, [B, H, W] each, of images [B, 3, H, W]: Gaussian blur and Sobel's operator, with replicated borders."""
    grey = images.mean(1, keepdim=True)
    blur = torch.tensor(BLUR, dtype=grey.dtype, device=grey.device) / 16
    sobel = torch.tensor(SOBEL, dtype=grey.dtype, device=grey.device) / 8
    grey = F.conv2d(F.pad(grey, (2, 2, 2, 2), mode="replicate"), (blur[:, None] * blur)[None, None])
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), torch.stack([sobel, sobel.T])[:, None])
    return slopes[:, 0], slopes[:, 1]


def relative(strength: Tensor) -> Tensor:
    """Edge strength [B, H, W] divided by its maximum in each image; zero in an image without an edge."""
    maximum = strength.amax((1, 2), keepdim=True)
    return torch.where(maximum > FLAT, strength / maximum.clamp(min=FLAT), 0.0)


def sobel(images: Tensor) -> Tensor:
    """Sobel edge map [B, H, W] in [0, 1] of images [B, 3, H, W]: the gradient's magnitude over its maximum in the image."""
    x, y = gradients(images)
    return relative(torch.hypot(x, y))


def canny(images: Tensor) -> Tensor:
    """Canny edge map [B, H, W], 0 or 1, of images [B, 3, H, W]: ridges of the gradient above LOW, connected to one above HIGH (Canny 1986)."""
    x, y = gradients(images)
    strength = relative(torch.hypot(x, y))
    ridge = strength * _is_ridge(strength, x, y)
    weak, strong = ridge > LOW, ridge > HIGH
    while True:  # hysteresis: strong edges grow along weak ones, one pixel a step
        grown = weak & (F.max_pool2d(strong[:, None].to(images.dtype), 3, 1, 1)[:, 0] > 0)
        if bool((grown == strong).all()):
            return strong.to(images.dtype)
        strong = grown


def _is_ridge(strength: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Non-maximum suppression [B, H, W]: true where no neighbour along the gradient, rounded to 45 degrees, is stronger."""
    padded = F.pad(strength, (1, 1, 1, 1))
    height, width = strength.shape[1:]
    eighth = (torch.atan2(y, x) / (torch.pi / 4)).round().long() % 4
    ridge = torch.zeros_like(strength, dtype=torch.bool)
    for direction, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[:, 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        ridge |= (eighth == direction) & (strength >= ahead) & (strength > behind)  # one of two equals
    return ridge


def given(images: Tensor) -> Tensor:
    """Edge map [B, H, W] of photos [B, 3, H, W] that are edge maps already, with dark lines on white."""
    return 1 - images.mean(1)


DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {"sobel": sobel, "canny": canny, "given": given}


def drawn(edges: Tensor) -> Tensor:
    """Edge maps [B, H, W] as images [B, 3, H, W] with dark lines on white (Zhang et al. 2019, section IV.E)."""
    return (1 - edges)[:, None].expand(-1, 3, -1, -1)


def drawings(batch: Batch, edges: str) -> tuple[Tensor, Tensor]:
    """All images of a batch as drawings [B, 3, H, W], with the mask of their lines [B, H, W], bool: sketches unchanged, photos as edge maps.

    `edges` is one of DETECTORS; another raises InputError.
    """
    if edges not in DETECTORS:
        raise InputError(f"unknown edges {edges!r}{nearest(edges, DETECTORS)}")
    images, photo = batch.images, batch.modality == PHOTO
    lines = strokes(images)
    if bool(photo.any()):
        edge_map = DETECTORS[edges](images[photo])
        images, lines = images.clone(), lines.clone()
        images[photo], lines[photo] = drawn(edge_map).to(images.dtype), edge_map > EDGE
    return images, lines
