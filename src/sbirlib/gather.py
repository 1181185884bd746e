"""Rows of all processes, with their exact gradient; with one process, nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch import distributed as dist

from sbirlib.features import Features
from sbirlib.processes import rank, world_size


def gather(features: Features, images: int) -> Features:
    """The features of all processes, of so many `images` here, as one process has them: rows in the order of the batch, other views last.

    The entries `images` and `extra` stay local. Every process must take part; the numbers of rows may differ.
    """
    if world_size() == 1:
        return features
    counts, sizes = lengths(len(features)), lengths(images)
    columns: list[Tensor] = []

    def note(rows: Tensor) -> Tensor:
        columns.append(rows)
        return rows

    apart = replace(features, source=features.source + sum(sizes[: rank()])).map(note)
    every = iter(_gathered(columns, counts))
    whole = apart.map(lambda _: next(every))
    return whole if counts == sizes else whole[in_order(whole, sum(sizes))]  # with a row an image they are in order


def in_order(features: Features, images: int) -> Tensor:
    """Order [N] of rows by view, and by source within a view, as an encoder gives them for a batch of so many images."""
    return torch.argsort(features.view * (images + 1) + features.source, stable=True)


def gather_rows(rows: Tensor) -> Tensor:
    """Rows [n, ...] of this process to those [N, ...] of all, in rank order, with gradient."""
    return rows if world_size() == 1 else _gathered([rows], lengths(len(rows)))[0]


def lengths(own: int) -> list[int]:
    """A number of this process, such as that of its rows, from all processes; on the CPU, so that no GPU has to be waited for."""
    numbers = torch.zeros(world_size(), dtype=torch.int64)
    numbers[rank()] = own
    if world_size() > 1:
        dist.all_reduce(numbers)
    counts: list[int] = numbers.tolist()
    return counts


def _gathered(columns: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Tensors [n, ...] of this process as those [N, ...] of all, in one message for each dtype."""
    results: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(column.dtype for column in columns):
        own = [i for i, column in enumerate(columns) if column.dtype == dtype]
        flat = torch.cat([columns[i].flatten(1) if columns[i].ndim > 1 else columns[i][:, None] for i in own], 1)
        widths = [columns[i][0:1].numel() if len(columns[i]) else _width(columns[i]) for i in own]
        parts = _Gather.apply(flat, tuple(counts)).split(widths, 1)
        results |= {i: part.reshape(len(part), *columns[i].shape[1:]) for i, part in zip(own, parts, strict=True)}
    return [results[i] for i in range(len(columns))]


def _width(column: Tensor) -> int:
    """Values of one row of a tensor [0, ...]."""
    return int(torch.tensor(column.shape[1:]).prod())


class _Gather(torch.autograd.Function):
    """Rows of all processes in rank order; backward sums the gradients of a row over processes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, counts: tuple[int, ...]) -> Tensor:
        """Rows [n, V] of this process to those of all [N, V]; `counts` has the n of each process."""
        ctx.counts = counts  # type: ignore[attr-defined]
        most, kind = max(counts), rows.dtype
        padded = rows.new_zeros(most, rows.shape[1], dtype=torch.uint8 if kind == torch.bool else kind)
        padded[: len(rows)] = rows
        every = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(every, padded)
        return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)]).to(kind)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        """Gradient of this process's rows [n, V] from that of all rows [N, V]."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        own: Tensor = total.split(list(ctx.counts))[rank()]  # type: ignore[attr-defined]
        return own, None
