"""Operations of torch that have no translation to ONNX, or one for some batch sizes only, by others that do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 25  # rows up to which torch.cdist takes differences, and above which products


def hypot(x: Tensor, y: Tensor) -> Tensor:
    """Length of (x, y), each [...]."""
    return (x * x + y * y).sqrt()


def cdist(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: str = "") -> Tensor:
    """Distances [..., P, R] of x [..., P, V] and y [..., R, V]; torch chooses its method by P too, which is the batch's size here."""
    products = y.shape[-2] > FEW
    return torch.cdist(x, y, p, "use_mm_for_euclid_dist" if products else "donot_use_mm_for_euclid_dist")


def adaptive_max_pool2d(maps: Tensor, output_size: int | tuple[int, int], return_indices: bool = False) -> Tensor:
    """Maxima [N, C, h, w] over cells of maps [N, C, H, W]: cell i of h begins at floor(i H / h) and ends before ceil((i + 1) H / h)."""
    sides = (output_size, output_size) if isinstance(output_size, int) else output_size
    for dim, cells in zip((-2, -1), sides, strict=True):
        side = maps.shape[dim]
        starts, ends = ([side * i // cells for i in range(cells)], [-(-side * (i + 1) // cells) for i in range(cells)])
        maps = torch.cat([maps.narrow(dim, s, e - s).amax(dim, keepdim=True) for s, e in zip(starts, ends, strict=True)], dim)
    return maps


def passes(*_: Any, **__: Any) -> bool:
    """The outcome of a check of values: a graph cannot stop, and holds no check."""
    return True


SUBSTITUTES: dict[Any, Callable[..., Any]] = {
    torch.allclose: passes,
    torch.hypot: hypot,
    torch.cdist: cdist,
    F.adaptive_max_pool2d: adaptive_max_pool2d,
}
