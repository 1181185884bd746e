"""Pool of images that a generator made earlier, for its discriminator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from sbirlib.plugin_api import lengths, world_size


class ImagePool(nn.Module):
    """The images that a discriminator judges in place of a generator's newest: half of them are earlier ones (Shrivastava et al. 2017, section 2.3).

    As in CycleGAN's code, image by image: while there is room, an image is kept, and judged; later, with probability 1/2, it takes the place of a
    random one of the pool, which is judged in its stead, and else it is judged and not kept. Random numbers are those of torch's global generator.
    In eval mode all are judged, and none is kept. The pool is that of the images of all processes, in the order of the batch, so it is the same in
    each of them. Images of another size empty it.

    Args:
        size: images that are kept
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, 3, 0, 0))  # sides are those of the first images, or of a checkpoint's
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, H, W] to be judged, for images [n, 3, H, W] that were made in this step; without gradient."""
        if not self.training:
            return images.detach()
        every, start = of_all(images)
        if self.images.shape[2:] != every.shape[2:]:
            self.images = self.images.new_zeros(len(self.images), *every.shape[1:])
            self.count.zero_()
        judged, count = every.clone(), int(self.count)
        for i, (chance, place) in enumerate(torch.rand(len(every), 2).tolist()):
            if count < len(self.images):
                self.images[count] = every[i]
                count += 1
            elif chance < 0.5:
                slot = int(place * len(self.images))
                judged[i] = self.images[slot]
                self.images[slot] = every[i]
        self.count.fill_(count)
        return judged[start : start + len(images)]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        images = state_dict.get(f"{prefix}images")
        if images is not None and images.ndim == 4 and images.shape[:2] == self.images.shape[:2]:
            self.images = self.images.new_zeros(images.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def of_all(images: Tensor) -> tuple[Tensor, int]:
    """Images of all processes [N, 3, H, W] in the order of the batch, and the place of this process's first, for its own [n, 3, H, W]."""
    if world_size() == 1:
        return images, 0
    parts = [images.new_empty(count, *images.shape[1:]) for count in lengths(len(images))]
    own = dist.get_rank()
    parts[own].copy_(images)
    for rank, part in enumerate(parts):
        dist.broadcast(part, rank)
    return torch.cat(parts), sum(len(part) for part in parts[:own])
