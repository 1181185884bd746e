"""Inputs of the checks: a small batch, a small encoder, and pictures of classes that are easily separated."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_lists
from sbirlib.interfaces import PHOTO, Batch, Encoder, Features
from sbirlib.testing.subject import FILL, seeded

CATEGORIES, INSTANCES = FILL["categories"], 2


def batch(*, size: int = 64, categories: int = CATEGORIES, instances: int = INSTANCES, seed: int = 0) -> Batch:
    """Noise: of each category so many instances, a sketch and a photo of each, in no order."""
    count = categories * instances * 2
    with seeded(seed):
        order = torch.randperm(count)
        instance = torch.arange(count) // 2
        return Batch(torch.rand(count, 3, size, size), torch.arange(count) % 2, instance // instances, instance)[order]


def uneven() -> Batch:
    """An odd number of the images of `batch()`, of modalities and categories in unequal shares."""
    whole = batch()
    return whole[uneven_rows(whole)]


def uneven_rows(images: Batch | Features) -> Tensor:
    """Mask [B] of thirteen images of `batch()`, or of their rows: it leaves out the sketches of category 0, and one of category 1."""
    return (images.modality == PHOTO) | (images.instance > 2)


class Plain(Encoder):
    """A linear map of a small picture: the encoder of those checks in which any will do."""

    def __init__(self, *, dim: int = FILL["dim"]) -> None:
        super().__init__()
        self.dim = self.vector_dim = dim
        self.embedding = nn.Linear(3 * 16, dim)

    def forward(self, batch: Batch) -> Features:
        return Features.of(batch, self.embedding(nn.functional.adaptive_avg_pool2d(batch.images - 0.5, 4).flatten(1) * 8))


def separable(*, categories: int = 6, instances: int = 6, size: int = 32) -> Dataset:
    """Stripes: their direction is the category; sketches are thin and black, photos broad and of any two colours."""
    items = [(c, i) for c in range(categories) for i in range(instances)]
    return from_lists(
        "stripes",
        sketches=[(_stripes(c / categories, (c, i, 0), size), f"direction{c}", f"{c}-{i}") for c, i in items],
        photos=[(_stripes(c / categories, (c, i, 1), size), f"direction{c}", f"{c}-{i}") for c, i in items],
    )


def _stripes(turn: float, seed: tuple[int, int, int], size: int) -> Image.Image:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    wave = np.cos(2 * np.pi * ((x * np.cos(np.pi * turn) + y * np.sin(np.pi * turn)) / random.uniform(7, 9) + random.random()))
    photo = bool(seed[2])
    share = (wave > (0 if photo else 0.7))[..., None]
    ink, paper = (random.integers(0, 256, (2, 3)) if photo else np.array([[0, 0, 0], [255, 255, 255]])).astype(float)
    return Image.fromarray((share * ink + (1 - share) * paper).astype(np.uint8))


def reloaded(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a file, with nothing unpickled but tensors."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def largest(call: Callable[[], Any]) -> int:
    """Bytes of the largest tensor that a call makes."""
    sizes = _Sizes()
    with sizes:
        call()
    return sizes.most


class _Sizes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self.most = max(self.most, tensor.untyped_storage().nbytes())
        return output
