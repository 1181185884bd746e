"""Where the lines of an image are: the strokes of a sketch, the edges of a photo."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import PHOTO, Batch

INK = 0.5  # what is darker is a stroke
BLUR = (1.0, 4.0, 6.0, 4.0, 1.0)  # a Gaussian of one pixel, in sixteenths
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
FLAT = 0.02  # of the range of grey: a picture whose steepest edge is less has none
LOW, HIGH = 0.1, 0.25  # of the steepest edge: what begins an edge, and what goes on with one (Canny 1986)
EDGE = 0.3  # of an edge map: what is stronger is a line


def strokes(images: Tensor) -> Tensor:
    """Ink: the pixels darker than half, bool [B, H, W], of images [B, 3, H, W] in [0, 1] with dark lines on white."""
    return images.mean(1) < INK


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """The slope of grey along x and y, [B, H, W] each: a Gaussian blur and Sobel's operator, the border repeated."""
    grey = images.mean(1, keepdim=True)
    blur = torch.tensor(BLUR, dtype=grey.dtype, device=grey.device) / 16
    sobel = torch.tensor(SOBEL, dtype=grey.dtype, device=grey.device) / 8
    grey = F.conv2d(F.pad(grey, (2, 2, 2, 2), mode="replicate"), (blur[:, None] * blur)[None, None])
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), torch.stack([sobel, sobel.T])[:, None])
    return slopes[:, 0], slopes[:, 1]


def relative(strength: Tensor) -> Tensor:
    """Strength [B, H, W] over its maximum in each image; zero everywhere in an image without an edge."""
    most = strength.amax((1, 2), keepdim=True)
    return torch.where(most > FLAT, strength / most.clamp(min=FLAT), 0.0)


def sobel(images: Tensor) -> Tensor:
    """An edge map in [0, 1], [B, H, W]: the steepness of the grey over the steepest in the image."""
    x, y = gradients(images)
    return relative(torch.hypot(x, y))


def canny(images: Tensor) -> Tensor:
    """Canny's edges, 0 or 1, [B, H, W]: ridges of the steepness above LOW that hang together with one above HIGH (Canny 1986)."""
    x, y = gradients(images)
    strength = relative(torch.hypot(x, y))
    ridge = strength * _is_ridge(strength, x, y)
    weak, strong = ridge > LOW, ridge > HIGH
    while True:  # strong edges grow along weak ones, a pixel at a time
        grown = weak & (F.max_pool2d(strong[:, None].to(images.dtype), 3, 1, 1)[:, 0] > 0)
        if bool((grown == strong).all()):
            return strong.to(images.dtype)
        strong = grown


def _is_ridge(strength: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Whether a pixel is no weaker than its two neighbours along the slope, which is taken to the nearest eighth of a turn."""
    padded = F.pad(strength, (1, 1, 1, 1))
    height, width = strength.shape[1:]
    eighth = (torch.atan2(y, x) / (torch.pi / 4)).round().long() % 4
    ridge = torch.zeros_like(strength, dtype=torch.bool)
    for turn, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[:, 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        ridge |= (eighth == turn) & (strength >= ahead) & (strength > behind)  # of two equals one is kept
    return ridge


def given(images: Tensor) -> Tensor:
    """The edge map that the photos already are: dark lines on white."""
    return 1 - images.mean(1)


DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {"sobel": sobel, "canny": canny, "given": given}


def drawn(edges: Tensor) -> Tensor:
    """An edge map [B, H, W] as the network sees it: dark lines on white, over three channels [B, 3, H, W] (Zhang et al. 2019, section IV.E)."""
    return (1 - edges)[:, None].expand(-1, 3, -1, -1)


def drawings(batch: Batch, edges: str) -> tuple[Tensor, Tensor]:
    """Every image as a drawing [B, 3, H, W], and which of its pixels are lines, bool [B, H, W]: sketches as they are, photos as edge maps.

    `edges` is one of DETECTORS; raises InputError for another.
    """
    if edges not in DETECTORS:
        raise InputError(f"unknown edges {edges!r}{nearest(edges, DETECTORS)}")
    images, photo = batch.images, batch.modality == PHOTO
    marked = strokes(images)
    if bool(photo.any()):
        found = DETECTORS[edges](images[photo])
        images, marked = images.clone(), marked.clone()
        images[photo], marked[photo] = drawn(found).to(images.dtype), found > EDGE
    return images, marked
