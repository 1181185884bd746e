"""Batch norms of a backbone: one for each modality, or with the statistics of training images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError
from sbirlib.features import PHOTO, SKETCH
from sbirlib.gather import gather_rows
from sbirlib.processes import world_size

Norms = Literal["shared", "modality"]
MODALITIES = ("sketch", "photo")


@dataclass(frozen=True)
class Routes:
    """Indices of the sketches and of the photos among so many images, and the order [B] of both together; none where all are of one modality."""

    rows: tuple[Tensor, Tensor]
    order: Tensor | None
    images: int


ROUTES: ContextVar[Routes] = ContextVar("routes")


@contextmanager
def images_of(modality: Tensor) -> Iterator[None]:
    """Let norms by modality take maps of images of this modality [B] inside the block."""
    sketches, photos = ((modality == each).nonzero()[:, 0] for each in (SKETCH, PHOTO))
    order = torch.cat([sketches, photos]).argsort() if len(sketches) and len(photos) else None
    token = ROUTES.set(Routes((sketches, photos), order, modality.shape[0]))
    try:
        yield
    finally:
        ROUTES.reset(token)


class ModalityNorm(nn.Module):
    """A batch norm for sketches and one for photos, each with its own statistics, scale and shift (Chang et al. 2019); both start as `norm`.

    Takes maps [B, C, ...] inside `images_of`, and normalises those of each modality apart.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.sketch, self.photo = norm, copy.deepcopy(norm)

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised maps [B, C, ...], in the order of the images."""
        routes = ROUTES.get(None)
        if routes is None or maps.shape[0] != routes.images:
            raise InputError(
                "batch norms by modality take one map for each image of a batch, inside a call of their encoder: call the encoder, or, where "
                "this backbone reshapes its batch, leave out norms = 'modality'"
            )
        parts = []
        for norm, rows in zip((self.sketch, self.photo), routes.rows, strict=True):
            if len(rows) or (norm.training and world_size() > 1):  # another process may have images of both, and waits for this one
                parts.append(norm(maps if len(rows) and routes.order is None else maps[rows]))
        if len(parts) < 2:
            normalised: Tensor = parts[0] if parts else self.photo(maps)
            return normalised
        joined = torch.cat(parts)
        return joined if routes.order is None else joined[routes.order]


def separate(module: nn.Module) -> None:
    """Replace each batch norm inside a module by a `ModalityNorm`."""
    separated: dict[nn.Module, ModalityNorm] = {}
    for parent in [*module.modules()]:
        for name, child in [*parent._modules.items()]:
            if isinstance(child, _BatchNorm):
                separated[child] = separated.get(child) or ModalityNorm(child)
                setattr(parent, name, separated[child])


def for_modalities(tensors: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Tensors of any shape by the names of `module` as it was before `separate`, under its present ones: those of a norm for each modality."""
    norms = [name for name, each in module.named_modules() if isinstance(each, ModalityNorm)]
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        norm = next((each for each in norms if name.startswith(f"{each}.")), None)
        names = [name] if norm is None else [f"{norm}.{modality}{name.removeprefix(norm)}" for modality in MODALITIES]
        renamed |= dict.fromkeys(names, tensor)
    return renamed


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch norms inside a module that have running statistics, scale and shift."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
    return [norm for norm in norms if norm.running_mean is not None and norm.affine]


def folded(module: nn.Module) -> bool:
    """Whether a module has batch norms and all have mean 0 and variance 1, as where they were folded into the convolutions before them."""
    identity, norms = {"running_mean": 0, "running_var": 1}, batch_norms(module)
    return bool(norms) and all(bool((getattr(norm, name) == value).all()) for norm in norms for name, value in identity.items())


@torch.no_grad()
def recalibrate(norms: Iterable[_BatchNorm], encode: Callable[[], object]) -> None:
    """Set running mean and variance of batch norms to those of the maps that they get while `encode` runs in eval mode.

    Their maps are those of all processes. What a norm computes in eval mode stays the same, so the maps of later norms do, and one run serves
    all. A norm that gets no map stays as it was.
    """
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        maps: Tensor = at_least_float32(inputs[0])
        if maps.numel():
            variance, mean = (each.cpu().double() for each in torch.var_mean(maps, [d for d in range(maps.ndim) if d != 1], correction=0))
            sums[norm] += maps.numel() / maps.shape[1] * torch.stack([torch.ones_like(mean), mean, variance + mean.square()])  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(add) for norm in sums]
    try:
        encode()
    finally:
        for hook in hooks:
            hook.remove()
    for norm, own in sums.items():
        count, total, squares = gather_rows(own[None]).sum(0)
        if bool(count.all()):
            mean = total / count
            set_statistics(norm, mean, (squares / count - mean.square()).clamp(min=0))


@torch.no_grad()
def set_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Set running mean m and variance v [C] of a batch norm, and change its scale w and shift b so that its map in eval mode stays the same.

    y = w (x - m) / sqrt(v + eps) + b        w' = r sqrt(v' + eps)        b' = b + r (m' - m)        r = w / sqrt(v + eps)
    """
    m, v, w, b = (getattr(norm, name).cpu().double() for name in ("running_mean", "running_var", "weight", "bias"))
    ratio = w / (v + norm.eps).sqrt()
    values = {"running_mean": mean, "running_var": variance, "weight": ratio * (variance + norm.eps).sqrt(), "bias": b + ratio * (mean - m)}
    for name, value in values.items():
        getattr(norm, name).copy_(value)
