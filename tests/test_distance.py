"""Pairwise distances: values, gradients, half precision, and few rows."""

import pytest
import torch
from torch import Tensor

from sbirlib import distance
from sbirlib.distance import at_least_float32, euclidean, root


def literal(vectors: Tensor) -> Tensor:
    rows = range(len(vectors))
    zero = vectors.new_zeros(())  # the root has no gradient at 0
    return torch.stack([torch.stack([(vectors[i] - vectors[j]).norm() if i != j else zero for j in rows]) for i in rows])


def few_pairs(count: int, pairs: int) -> Tensor:
    """A gradient [N, N] of which only some entries are not zero, on and off the diagonal, some of them in both directions."""
    gradient = torch.zeros(count, count, dtype=torch.float64)
    row, column = torch.randint(0, count, (2, pairs))
    gradient[row, column] = torch.randn(pairs, dtype=torch.float64)
    gradient[1, 0], gradient[0, 1], gradient[2, 2] = 0.5, -2.0, 1.0
    return gradient


@pytest.mark.parametrize("strip", [1, 3, 4, 8, 9, 256])
def test_equals_the_definition(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "STRIP", strip)
    torch.manual_seed(0)
    vectors = torch.randn(9, 5, dtype=torch.float64)
    torch.testing.assert_close(euclidean(vectors), literal(vectors))
    assert (euclidean(vectors.float()).diagonal() == 0).all()


@pytest.mark.parametrize("dense", [True, False])
def test_gradient_equals_autograds(dense: bool) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(24, 6, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(24, 24, dtype=torch.float64) if dense else few_pairs(24, 20)
    (ours,) = torch.autograd.grad(euclidean(vectors), vectors, gradient)
    (theirs,) = torch.autograd.grad(literal(vectors), vectors, gradient)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("pairs", [1, 100])
def test_gradient_is_zero_where_rows_coincide(pairs: int) -> None:
    vectors = torch.ones(20, 3, dtype=torch.float64, requires_grad=True)
    gradient = few_pairs(20, pairs)
    (result,) = torch.autograd.grad(euclidean(vectors), vectors, gradient)
    assert (result == 0).all()


def test_no_gradient_at_all_is_zero() -> None:
    vectors = torch.randn(6, 3, requires_grad=True)
    (result,) = torch.autograd.grad(euclidean(vectors), vectors, torch.zeros(6, 6))
    assert (result == 0).all()


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: euclidean(x)[off_diagonal], (vectors,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_promoted_even_under_autocast(dtype: torch.dtype) -> None:
    vectors = torch.randn(4, 3).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = euclidean(vectors)
    distances.sum().backward()
    assert distances.dtype == torch.float32
    torch.testing.assert_close(distances, euclidean(vectors.float()))
    assert vectors.grad is not None
    assert vectors.grad.dtype == dtype


def test_a_root_has_no_gradient_where_it_is_zero() -> None:
    squared = torch.tensor([0.0, 4.0, 0.25], dtype=torch.float64, requires_grad=True)
    roots = root(squared)
    assert roots.tolist() == [0.0, 2.0, 0.5]
    roots.sum().backward()
    assert squared.grad is not None
    assert squared.grad.tolist() == [0.0, 0.25, 1.0]


def test_at_least_float32() -> None:
    dtypes = [at_least_float32(torch.zeros(1, dtype=d)).dtype for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)]
    assert dtypes == [torch.float32, torch.float32, torch.float32, torch.float64]


def test_nan_is_not_hidden() -> None:
    vectors = torch.tensor([[0.0, 1.0], [float("nan"), 0.0]])
    assert euclidean(vectors)[0, 1].isnan()


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows(count: int) -> None:
    vectors = torch.randn(count, 3, requires_grad=True)
    distances = euclidean(vectors)
    distances.sum().backward()
    assert distances.shape == (count, count)
    assert vectors.grad is not None
    assert vectors.grad.shape == (count, 3)


def test_the_shape_is_checked() -> None:
    with pytest.raises(ValueError, match=r"takes vectors \[N, V\], got \[2, 3, 4\]"):
        euclidean(torch.zeros(2, 3, 4))
