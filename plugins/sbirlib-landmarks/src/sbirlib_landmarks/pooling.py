"""Landmark pooling: the mean of the features at moving points (Zhang et al. 2019, section III.A)."""

from typing import Literal

import torch
from torch import Tensor

Projection = Literal["centre", "floor", "ceil"]


def project(points: Tensor, size: tuple[int, int], cells: tuple[int, int], projection: Projection = "centre") -> Tensor:
    """Places [B, N, 2] on a map of `cells` (H', W') of the pixels (x, y) [B, N, 2] of images of `size` (H, W), clamped to the map.

        centre    (x + 1/2) W' / W - 1/2    of the pixel's centre, between cells; cell i covers the places from i - 1/2 to i + 1/2
        floor     floor(x W' / W)           the cell that the pixel lies in
        ceil      ceil(x W' / W)            as printed; of pixels counted from 0 it is up to a cell to the right and below

    All other coordinates count from 0. Of coordinates that count from 1 the printed ceil is `floor`.
    """
    ratio = torch.tensor([cells[1] / size[1], cells[0] / size[0]], device=points.device)
    last = torch.tensor([cells[1] - 1, cells[0] - 1], dtype=points.dtype, device=points.device)
    if projection == "centre":
        places = (points + 0.5) * ratio - 0.5
    else:
        places = (points * ratio).floor() if projection == "floor" else (points * ratio).ceil()
    return torch.minimum(places.clamp(min=0), last)


def own_cells(places: Tensor, cells: tuple[int, int]) -> Tensor:
    """Index y W' + x [B, N] of the cell nearest to each of the places (x, y) [B, N, 2] on a map of `cells` (H', W')."""
    x, y = (places + 0.5).floor().long().unbind(2)
    return y * cells[1] + x


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
