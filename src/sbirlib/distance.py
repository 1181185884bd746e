"""Euclidean distances of all pairs: one matrix product forward, at most one backward."""

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP = 256  # rows of distances that are computed at once on a CPU


class _Euclidean(torch.autograd.Function):
    """The gradient is written out because autograd's costs six passes over [N, N] and two products.

    With C = G / D (zero where D is zero) and S = C + C^T, dL/dx = (S 1) x - S x. A loss over mined triplets touches a few
    entries a row: S is then kept sparse.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, vectors: Tensor) -> Tensor:
        """Distances [N, N] of vectors [N, V]."""
        squares = (vectors * vectors).sum(1)
        height = STRIP if vectors.device.type == "cpu" else max(len(vectors), 1)
        if len(vectors) <= height:
            distances = _from(vectors, vectors, squares, squares)
        else:  # half of the product, for the matrix is symmetric; and each strip stays in the processor's cache
            distances = vectors.new_empty(len(vectors), len(vectors))
            for start in range(0, len(vectors), height):
                rows, rest = slice(start, start + height), slice(start + height, None)
                strip = _from(vectors[rows], vectors[start:], squares[rows], squares[start:])
                distances[rows, start:] = strip
                distances[rest, rows] = strip[:, height:].T
        ctx.save_for_backward(vectors, distances)
        return distances

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        """Gradient of the vectors [N, V] from that of the distances [N, N]."""
        vectors, distances = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        row, column = gradient.nonzero(as_tuple=True)
        if len(row) * 16 > gradient.numel():
            share = _over(gradient, distances)
            share = share + share.T
            whole: Tensor = share.sum(1, keepdim=True) * vectors - share @ vectors
            return whole
        share = _over(gradient[row, column], distances[row, column]).repeat(2)
        other = torch.cat([column, row])
        row, order = torch.cat([row, column]).sort()
        share, start = share[order], torch.searchsorted(row, torch.arange(len(vectors), device=row.device))
        pull = F.embedding_bag(other[order], vectors, start, mode="sum", per_sample_weights=share)  # S x, row by row
        sparse: Tensor = torch.zeros_like(vectors[:, 0]).index_add_(0, row, share)[:, None] * vectors - pull
        return sparse


def _from(rows: Tensor, vectors: Tensor, row_squares: Tensor, squares: Tensor) -> Tensor:
    """Distances [n, N] of rows [n, V], the first of the vectors [N, V], to all of them, from their squared lengths [n] and [N]."""
    squared = torch.addmm(squares, rows, vectors.T, alpha=-2).add_(row_squares[:, None])
    return squared.fill_diagonal_(0).clamp_(min=0).sqrt_()


def _over(gradient: Tensor, distances: Tensor) -> Tensor:
    return torch.where(distances > 0, gradient / distances, 0.0)


def euclidean(vectors: Tensor) -> Tensor:
    """D[i, j] = ||x_i - x_j||_2 for vectors [N, V], as [N, N]; zero on the diagonal, with gradient zero where D is zero.

    Half precision is promoted to float32, float64 stays.

    >>> euclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[0., 5.],
            [5., 0.]])
    """
    if vectors.ndim != 2:
        raise ValueError(f"euclidean takes vectors [N, V], got {list(vectors.shape)}")
    with torch.autocast(vectors.device.type, enabled=False):
        distances: Tensor = _Euclidean.apply(at_least_float32(vectors))
    return distances


def root(squared: Tensor) -> Tensor:
    """Square root of values of any shape and at least 0, with gradient zero at zero."""
    positive = squared > 0
    return torch.where(positive, squared, 1.0).sqrt() * positive


def are_units(vectors: Tensor) -> bool:
    """Whether vectors [..., V] are of unit length, to a thousandth."""
    lengths = vectors.norm(dim=-1)
    return torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3)


def at_least_float32(values: Tensor) -> Tensor:
    """Values of any shape, with half precision promoted to float32; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
