"""The place of a drawing in a prepared image."""

from __future__ import annotations

import torch
from torch import Tensor


def ink_box(image: Tensor) -> tuple[int, int, int, int]:
    """Bounds of the dark pixels: left, top, right, bottom; right and bottom lie outside."""
    y, x = torch.nonzero(image[0] < 200, as_tuple=True)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
