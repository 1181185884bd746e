"""Operations that depend on a batch as a whole, over the images of all processes: batch norm, and random draws.

A process holds a share of the batch. Under `WholeBatch` a batch norm in training mode takes its mean and variance over all shares, and a
random draw, such as that of a dropout, is made for all rows, of which each process takes its own: so a step is the same on any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributed as dist
from torch.overrides import TorchFunctionMode

from sbirlib.gather import lengths
from sbirlib.processes import rank, world_size

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
LIKE = (torch.rand_like, torch.randn_like, torch.randint_like, torch.bernoulli)
SIZED = (torch.rand, torch.randn)
IN_PLACE = (
    Tensor.bernoulli_, Tensor.normal_, Tensor.uniform_, Tensor.exponential_, Tensor.random_, Tensor.cauchy_, Tensor.geometric_, Tensor.log_normal_
)  # fmt: skip


class WholeBatch(TorchFunctionMode):
    """Mode in which batch norms see all processes' images, and, where `draws`, a random tensor [n, ...] is this process's share of one for all rows.

    Every process must make the same calls, and have the same random state.
    """

    def __init__(self, *, draws: bool, norms: bool) -> None:
        super().__init__()
        self.draws, self.norms = draws, norms

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if self.norms and func is F.batch_norm:
            return batch_norm(*args, **options)
        if self.draws and options.get("generator") is None:
            if func in DROPOUTS:
                return _dropout(func, *args, **options)
            if func in LIKE:
                return _own_rows(args[0], lambda every: func(every, *args[1:], **options))
            if func in IN_PLACE:
                return args[0].copy_(_own_rows(args[0], lambda every: func(every, *args[1:], **options)))
            if func in SIZED:
                rows = torch.empty(*args, **options)
                return _own_rows(rows, lambda every: func(every.shape, **{k: v for k, v in options.items() if k != "size"}))
        return func(*args, **options)


def whole_batch(*, draws: bool, norms: bool = True) -> AbstractContextManager[Any]:
    """The mode for a block, where there are several processes; else a block that changes nothing."""
    return WholeBatch(draws=draws, norms=norms) if world_size() > 1 else nullcontext()


def _own_rows(rows: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """This process's rows [n, ...] of a draw for those of all processes; one row, or a scalar, is common to all."""
    if rows.ndim == 0 or (len(rows) == 1 and rows.ndim == 1):
        return draw(rows)
    counts = lengths(len(rows))
    start = sum(counts[: rank()])
    whole = rows.new_zeros(sum(counts), *rows.shape[1:])
    if rows.ndim == 4 and rows.is_contiguous(memory_format=torch.channels_last):
        whole = whole.contiguous(memory_format=torch.channels_last)  # draws follow the order in memory
    whole[start : start + len(rows)] = rows
    return draw(whole)[start : start + len(rows)]


def _dropout(func: Any, rows: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """A dropout of rows [n, ...]."""
    dropped: Tensor = _own_rows(rows, lambda every: func(every, p, training)) if training and p > 0 else rows
    return dropped


def batch_norm(
    maps: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm of maps [n, C, ...] as torch's, with statistics [C] over all processes (Ioffe and Szegedy 2015, algorithm 1)."""
    if not training:
        return F.batch_norm(maps, running_mean, running_var, weight, bias, False, momentum, eps)
    outputs, mean, variance, count = _BatchNorm.apply(maps, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            unbiased = variance * (count / (count - 1).clamp(min=1))
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    normalised: Tensor = outputs
    return normalised


class _BatchNorm(torch.autograd.Function):
    """y = w (x - mean) / sqrt(variance + eps) + b, mean and variance over the values of a channel in all processes."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, maps: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Outputs [n, C, ...], mean [C], variance [C] and number [] of values, from maps [n, C, ...]."""
        mean, variance, count = _statistics(maps)
        ctx.save_for_backward(maps, weight, mean, (variance + eps).rsqrt(), count)  # type: ignore[arg-type]
        ctx.mark_non_differentiable(mean, variance, count)
        outputs = torch.batch_norm(maps, weight, bias, mean, variance, False, 0.0, eps, False) if len(maps) else maps.clone()
        return outputs, mean, variance, count

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        """Gradients of maps [n, C, ...], weight and bias [C], from that of the outputs; the sums over values are those of all processes."""
        maps, weight, mean, inverse, count = ctx.saved_tensors  # type: ignore[attr-defined]
        gradient, dims = gradients[0].to(mean.dtype), _but_channels(maps)
        unit = (maps.to(mean.dtype) - _channels(mean, maps)) * _channels(inverse, maps)
        sums = torch.stack([gradient.sum(dims), (gradient * unit).sum(dims)])
        own = sums.clone()
        dist.all_reduce(sums)
        means = sums / count
        scale = inverse if weight is None else inverse * weight.to(mean.dtype)
        inputs = _channels(scale, maps) * (gradient - _channels(means[0], maps) - unit * _channels(means[1], maps))
        of_weight, of_bias = (None, None) if weight is None else (own[1].to(weight.dtype), own[0].to(weight.dtype))
        return inputs.to(maps.dtype), of_weight, of_bias, None


def _statistics(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], variance [C] and number [] of the values of a channel in all processes, from maps [n, C, ...] (Chan et al. 1983, eq. 2.1)."""
    values, dims = maps.to(torch.promote_types(maps.dtype, torch.float32)), _but_channels(maps)
    own = values.new_zeros(3, maps.shape[1])
    if len(maps):
        variance, mean = torch.var_mean(values, dims, correction=0)
        own = torch.stack([mean, variance, torch.full_like(mean, maps.numel() / maps.shape[1])])
    every = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(every, own)
    means, variances, counts = torch.stack(every, 1)
    count = counts.sum(0).clamp(min=1)
    mean = (means * counts).sum(0) / count
    variance = ((variances + (means - mean).square()) * counts).sum(0) / count
    return mean, variance, count[0]


def _but_channels(maps: Tensor) -> list[int]:
    return [dim for dim in range(maps.ndim) if dim != 1]


def _channels(values: Tensor, maps: Tensor) -> Tensor:
    """Values [C] in the shape that goes with maps [n, C, ...]."""
    return values.reshape(1, -1, *[1] * (maps.ndim - 2))
