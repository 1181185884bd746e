"""Line maps of images: strokes of a sketch, edges of a photo (Sobel, Canny)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import PHOTO, Batch

INK = 0.5  # darker pixels are strokes
BLUR = (1.0, 4.0, 6.0, 4.0, 1.0)  # a Gaussian of one pixel, in sixteenths
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
FLAT = 0.02  # of the range of grey: an image whose steepest edge is below it has no edge
LOW, HIGH = 0.1, 0.25  # of the steepest edge: hysteresis thresholds, weak and strong (Canny 1986)
EDGE = 0.3  # of an edge map: stronger pixels are lines


def strokes(images: Tensor) -> Tensor:
    """Mask of pixels darker than half, bool [B, H, W], for images [B, 3, H, W] in [0, 1] with dark lines on white."""
    return images.mean(1) < INK


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of grey along x and y, [B, H, W] each, of images [B, 3, H, W]: a Gaussian blur and Sobel's operator, the border repeated."""
    grey = images.mean(1, keepdim=True)
    blur = torch.tensor(BLUR, dtype=grey.dtype, device=grey.device) / 16
    sobel = torch.tensor(SOBEL, dtype=grey.dtype, device=grey.device) / 8
    grey = F.conv2d(F.pad(grey, (2, 2, 2, 2), mode="replicate"), (blur[:, None] * blur)[None, None])
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), torch.stack([sobel, sobel.T])[:, None])
    return slopes[:, 0], slopes[:, 1]


def magnitude(x: Tensor, y: Tensor) -> Tensor:
    """Length of the gradients (x, y), [B, H, W] each, whose own gradient is zero where both are, and not NaN as that of hypot."""
    even = (x == 0) & (y == 0)
    return torch.hypot(x.masked_fill(even, 1), y).masked_fill(even, 0)


def relative(strength: Tensor) -> Tensor:
    """Strength [B, H, W] over its maximum in each image; zero everywhere in an image without an edge."""
    most = strength.amax((1, 2), keepdim=True)
    return torch.where(most > FLAT, strength / most.clamp(min=FLAT), 0.0)


def sobel(images: Tensor) -> Tensor:
    """Edge map in [0, 1], [B, H, W], of images [B, 3, H, W]: the gradient's magnitude over its maximum in the image."""
    x, y = gradients(images)
    return relative(magnitude(x, y))


def canny(images: Tensor) -> Tensor:
    """Canny's edges, 0 or 1, [B, H, W], of images [B, 3, H, W]: ridges above LOW that are connected to one above HIGH (Canny 1986)."""
    x, y = gradients(images)
    strength = relative(magnitude(x, y))
    ridge = strength * _is_ridge(strength, x, y)
    weak, strong = ridge > LOW, ridge > HIGH
    while True:  # strong edges grow along weak ones, a pixel at a time
        grown = weak & (F.max_pool2d(strong[:, None].to(images.dtype), 3, 1, 1)[:, 0] > 0)
        if bool((grown == strong).all()):
            return strong.to(images.dtype)
        strong = grown


def _is_ridge(strength: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mask [B, H, W] of pixels no weaker than their two neighbours along the gradient, rounded to an eighth of a turn."""
    padded = F.pad(strength, (1, 1, 1, 1))
    height, width = strength.shape[1:]
    eighth = (torch.atan2(y, x) / (torch.pi / 4)).round().long() % 4
    ridge = torch.zeros_like(strength, dtype=torch.bool)
    for turn, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[:, 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        ridge |= (eighth == turn) & (strength >= ahead) & (strength > behind)  # one of two equals
    return ridge


def darkness(images: Tensor) -> Tensor:
    """Edge map [B, H, W] of images [B, 3, H, W] that are edge maps already, dark lines on white."""
    return 1 - images.mean(1)


DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {"sobel": sobel, "canny": canny, "given": darkness}


def as_drawing(edges: Tensor) -> Tensor:
    """Drawing [B, 3, H, W] of an edge map [B, H, W]: dark lines on white (Zhang et al. 2019, section IV.E)."""
    return (1 - edges)[:, None].expand(-1, 3, -1, -1)


def drawings(batch: Batch, edges: str) -> tuple[Tensor, Tensor]:
    """Drawings [B, 3, H, W] and masks of their lines, bool [B, H, W]: sketches as they are, photos as edge maps.

    `edges` is one of DETECTORS; raises InputError for another.
    """
    if edges not in DETECTORS:
        raise InputError(f"unknown edges {edges!r}{nearest(edges, DETECTORS)}")
    images, photo = batch.images, batch.modality == PHOTO
    lines = strokes(images)
    if bool(photo.any()):
        edge_map = DETECTORS[edges](images[photo])
        images, lines = images.clone(), lines.clone()
        images[photo], lines[photo] = as_drawing(edge_map).to(images.dtype), edge_map > EDGE
    return images, lines
