"""Farthest-point sampling on the lines of an image."""

import math

import torch
from torch import Tensor

from sbirlib.plugin_api import InputError


def farthest_points(lines: Tensor, count: int) -> Tensor:
    """N = `count` pixels of each mask [B, H, W], (x, y) as float [B, N, 2], by farthest-point sampling.

    The first is the pixel farthest from the middle of the lines, each other the one farthest from all before; of equals the first row by row.
    With fewer pixels than `count` they repeat in the same order; a blank mask has its points on a grid over the image. The whole batch at once,
    deterministic. Raises InputError for a `count` below 1.
    """
    if count < 1:
        raise InputError(f"at least 1 point is needed, got {count}")
    if torch.compiler.is_exporting():
        return of_every_pixel(lines, count)
    batch, height, width = lines.shape
    image, y, x = lines.nonzero(as_tuple=True)
    pixels = lines.flatten(1).sum(1)
    most = int(pixels.max()) if batch else 0
    places = torch.zeros(batch, most, 2, device=lines.device)
    place = torch.arange(len(image), device=lines.device) - (pixels.cumsum(0) - pixels)[image]  # of the pixel among its image's
    places[image, place] = torch.stack([x, y], 1).float()
    there = torch.arange(most, device=lines.device) < pixels[:, None]
    blank = grid_points(count, height, width).to(lines.device).expand(batch, -1, -1)
    if most == 0:
        return blank

    middle = places.sum(1, keepdim=True) / pixels.clamp(min=1)[:, None, None]
    indices = [_squared(places, middle).masked_fill(~there, -1.0).argmax(1)]
    far = torch.full((batch, most), torch.inf, device=lines.device).masked_fill(~there, -1.0)
    for _ in range(min(count, most) - 1):
        last = places.gather(1, indices[-1][:, None, None].expand(-1, 1, 2))
        far = torch.minimum(far, _squared(places, last).masked_fill(~there, -1.0))
        indices.append(far.argmax(1))
    again = torch.arange(count, device=lines.device) % pixels.clamp(min=1)[:, None]
    order = torch.stack(indices, 1).gather(1, again)
    points = places.gather(1, order[..., None].expand(-1, -1, 2))
    return torch.where((pixels > 0)[:, None, None], points, blank)


def of_every_pixel(lines: Tensor, count: int) -> Tensor:
    """`farthest_points` in a graph of fixed shapes [B, N, 2], as an exported model needs: distances of every pixel, those beside the lines at -1."""
    height, width = lines.shape[1:]
    y, x = torch.arange(height, device=lines.device), torch.arange(width, device=lines.device)
    places = torch.stack([x.repeat(height), y[:, None].expand(-1, width).flatten()], 1).float()  # of pixels, row by row [H W, 2]
    there = lines.flatten(1)
    pixels = there.sum(1, keepdim=True)
    middle = (places * there[..., None]).sum(1, keepdim=True) / pixels.clamp(min=1)[..., None]
    indices = [_squared(places, middle).masked_fill(~there, -1.0).argmax(1)]
    far = torch.zeros_like(there, dtype=places.dtype).masked_fill(there, torch.inf).masked_fill(~there, -1.0)
    for _ in range(count - 1):
        far = torch.minimum(far, _squared(places, places[indices[-1]][:, None]).masked_fill(~there, -1.0))
        indices.append(far.argmax(1))
    again = torch.arange(count, device=lines.device) % pixels.clamp(min=1)
    points = places[torch.stack(indices, 1).gather(1, again)]
    return torch.where((pixels > 0)[..., None], points, grid_points(count, height, width).to(lines.device))


def grid_points(count: int, height: int, width: int) -> Tensor:
    """N = `count` points (x, y) [N, 2] row by row at the middles of the cells of a grid over the image, with ceil(sqrt N) columns."""
    columns = math.ceil(math.sqrt(count))
    rows, cell = math.ceil(count / columns), torch.arange(count)
    return torch.stack([(cell % columns + 0.5) * width / columns, (cell // columns + 0.5) * height / rows], 1).float() - 0.5


def _squared(places: Tensor, point: Tensor) -> Tensor:
    return (places - point).square().sum(2)
