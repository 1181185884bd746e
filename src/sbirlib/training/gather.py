"""Rows and gradients across processes; with one process, nothing at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch import distributed as dist

from sbirlib.interfaces import Features


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    """Rows of all processes in rank order; backward sums the gradients of a row over processes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        """Rows [n, ...] of this process to those of all [N, ...]."""
        everyone = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        """Gradient of this process's rows [n, ...] from that of all rows [N, ...]."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]


def gather(features: Features) -> Features:
    """The features of all processes; every process must hold the same number of rows."""
    if world_size() == 1:
        return features
    images = torch.tensor(int(features.source.max()) + 1, device=features.source.device)
    dist.all_reduce(images, op=dist.ReduceOp.MAX)
    apart = replace(features, source=features.source + rank() * int(images))
    return apart.map(lambda rows: _Gather.apply(rows))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over processes of every gradient, in one message; a missing one counts as zero."""
    if world_size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])
    dist.all_reduce(flat)
    for parameter, gradient in zip(trained, torch.split(flat / world_size(), [p.numel() for p in trained]), strict=True):
        parameter.grad = gradient.view_as(parameter)
