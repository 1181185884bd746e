"""Rows of all processes, with their exact gradient; with one process, nothing at all."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
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
    counts, sizes, derived = zip(*_numbers(len(features), images, _is_normalised_embedding(features)), strict=True)
    columns: list[Tensor] = []

    def note(rows: Tensor) -> Tensor:
        columns.append(rows)
        return rows

    apart = replace(features, source=features.source + sum(sizes[: rank()]))
    if all(derived):  # half of the message, and of that of the gradients
        apart = replace(apart, vector=apart.vector[:, :0])
    apart.map(note)
    every = iter(_Gather.apply(counts, *columns))
    whole = apart.map(lambda _: next(every))
    if all(derived):
        whole = replace(whole, vector=F.normalize(whole.embedding, dim=1))
    return whole if counts == sizes else whole[in_order(whole, sum(sizes))]  # with a row an image they are in order


def _is_normalised_embedding(features: Features) -> bool:
    """Whether the vectors are the embedding, L2-normalised, as by default; not looked at on a GPU, which would have to be waited for."""
    if features.vector.device.type != "cpu" or features.vector.shape != features.embedding.shape:
        return False
    return torch.equal(features.vector, F.normalize(features.embedding, dim=1))


def in_order(features: Features, images: int) -> Tensor:
    """Order [N] of rows by view, and by source within a view, as an encoder gives them for a batch of so many images."""
    return torch.argsort(features.view * (images + 1) + features.source, stable=True)


def gather_rows(rows: Tensor) -> Tensor:
    """Rows [n, ...] of this process to those [N, ...] of all, in rank order, with gradient."""
    whole: Tensor = rows if world_size() == 1 else _Gather.apply(tuple(lengths(len(rows))), rows)[0]
    return whole


def lengths(own: int) -> list[int]:
    """A number of this process, such as that of its rows, from all processes."""
    return [own] if world_size() == 1 else [number for (number,) in _numbers(own)]


def _numbers(*own: int) -> list[list[int]]:
    """Some numbers of this process, from all processes; on the CPU, so that no GPU has to be waited for."""
    numbers: list[list[int]] = _of_all(torch.tensor([own])).tolist()
    return numbers


def _of_all(own: Tensor) -> Tensor:
    """The rows [n, V] of all processes, of the same number in each, [W n, V]; on the CPU gloo's all-to-all takes half the time of its all-gather."""
    every = own.new_empty(world_size() * len(own), *own.shape[1:])
    if own.device.type == "cpu":
        dist.all_to_all_single(every, own.repeat(world_size(), *[1] * (own.ndim - 1)))
    else:
        dist.all_gather_into_tensor(every, own)
    return every


class _Gather(torch.autograd.Function):
    """Rows of all processes in rank order, all columns in one message; backward sums the gradients of a row over processes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, counts: tuple[int, ...], *columns: Tensor) -> tuple[Tensor, ...]:
        """Columns [n, ...] of this process to those of all, [N, ...]; `counts` has the n of each process."""
        ctx.counts, ctx.shapes = counts, [column.shape[1:] for column in columns]  # type: ignore[attr-defined]
        flat = [column.detach().reshape(len(column), shape.numel()) for column, shape in zip(columns, ctx.shapes, strict=True)]  # type: ignore[attr-defined]
        own = torch.cat([values.contiguous().view(torch.uint8) for values in flat], 1)
        padded = own.new_zeros(max(counts), own.shape[1])
        padded[: len(own)] = own
        every = _of_all(padded).split(max(counts))
        parts = torch.cat([part[:count] for part, count in zip(every, counts, strict=True)]).split(
            [shape.numel() * column.element_size() for column, shape in zip(columns, ctx.shapes, strict=True)], 1  # type: ignore[attr-defined]
        )  # fmt: skip
        whole = tuple(
            part.contiguous().view(column.dtype).reshape(len(part), *shape)
            for part, column, shape in zip(parts, columns, ctx.shapes, strict=True)  # type: ignore[attr-defined]
        )
        ctx.mark_non_differentiable(*(values for values in whole if not values.is_floating_point()))
        return whole

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of this process's rows [n, ...] from those of all rows [N, ...]: each process sends every other the part that is its own."""
        counts: tuple[int, ...] = ctx.counts  # type: ignore[attr-defined]
        own, shapes = counts[rank()], ctx.shapes  # type: ignore[attr-defined]
        trained = [i for i, needed in enumerate(ctx.needs_input_grad[1:]) if needed]  # type: ignore[attr-defined]
        results: list[Tensor | None] = [None] * len(gradients)
        for dtype in dict.fromkeys(gradients[i].dtype for i in trained):
            columns = [i for i in trained if gradients[i].dtype == dtype]
            whole = torch.cat([gradients[i].reshape(sum(counts), shapes[i].numel()) for i in columns], 1)
            parts = whole.new_empty(len(counts) * own, whole.shape[1])
            dist.all_to_all_single(parts, whole, [own] * len(counts), list(counts))
            sums = parts.view(len(counts), own, -1).sum(0).split([shapes[i].numel() for i in columns], 1)
            results = [sums[columns.index(i)].reshape(own, *shapes[i]) if i in columns else result for i, result in enumerate(results)]
        return None, *results
