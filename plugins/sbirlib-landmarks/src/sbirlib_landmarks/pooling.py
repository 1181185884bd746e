"""Landmark pooling: the mean of the features at moving points (Zhang et al. 2019, section III.A)."""

import torch
from torch import Tensor


def project(points: Tensor, size: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """Pixels (x, y) [B, N, 2] of images of `size` (H, W) as cells [B, N, 2] of a map of (H', W') cells: ceil(l W' / W), clamped to the map."""
    ratio = torch.tensor([cells[1] / size[1], cells[0] / size[0]], device=points.device)
    last = torch.tensor([cells[1] - 1, cells[0] - 1], dtype=points.dtype, device=points.device)
    return torch.minimum((points * ratio).ceil().clamp(min=0), last)


def kernel(places: Tensor, cells: int) -> Tensor:
    """g(l, q) = max(0, 1 - |l - q|) for places l [B, N] and cells q = 0 ... cells - 1, as [B, N, cells] (eq. 3 and 4).

    Where l lies on a cell the slope is that to the right, so that a point which starts there can move; |.| itself has none.
    """
    apart = places[..., None] - torch.arange(cells, dtype=places.dtype, device=places.device)
    rising = torch.where((apart >= -1) & (apart < 0), 1 + apart, 0.0)
    return torch.where((apart >= 0) & (apart < 1), 1 - apart, rising)


def bilinear(places: Tensor, cells: tuple[int, int]) -> Tensor:
    """G(l, q) = g(l_x, q_x) g(l_y, q_y) for places (x, y) [B, N, 2], as [B, N, H, W] (eq. 2)."""
    x, y = kernel(places[..., 0], cells[1]), kernel(places[..., 1], cells[0])
    return y[..., :, None] * x[..., None, :]


def landmark_pool(features: Tensor, places: Tensor) -> Tensor:
    """The mean over places [B, N, 2] of x(l) = sum_q G(l, q) x(q), for a map x [B, C, H, W]: [B, C] (eq. 1, figure 4)."""
    share = bilinear(places, (features.shape[2], features.shape[3])).mean(1)
    return torch.einsum("bhw,bchw->bc", share, features)
