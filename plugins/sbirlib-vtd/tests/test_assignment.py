import math

import pytest
import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib_vtd.assignment import Assignment, column_entropy, divergence, divergence_of_each, row_entropy


def shares(count: int = 6, rows: int = 5, seed: int = 0) -> Tensor:
    return (3 * torch.randn(count, rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).softmax(1)


def of(logits: Tensor) -> Step:
    count = len(logits)
    batch = Batch(torch.zeros(count, 3, 2, 2), *(torch.zeros(count, dtype=torch.int64) for _ in range(3)))
    return Step(Features.of(batch, torch.zeros(count, 2), rows={"assignment": logits}), encoder=Encoder(), batch=batch)


def test_the_entropies_equal_the_equations() -> None:
    p = shares()
    count, rows = p.shape
    h_row = -sum(float(p[i, j]) * math.log(float(p[i, j])) for i in range(count) for j in range(rows)) / count  # eq. 5
    p_c = [sum(float(p[i, j]) for i in range(count)) / count for j in range(rows)]
    h_col = -sum(c * math.log(c) for c in p_c)  # eq. 6
    of_each = sum(float(p[i, j]) * math.log(float(p[i, j]) * rows) for i in range(count) for j in range(rows)) / count  # eq. 4
    of_batch = sum(c * math.log(c * rows) for c in p_c)
    for value, expected in (
        (row_entropy(p), h_row),
        (column_entropy(p), h_col),
        (divergence_of_each(p), of_each),
        (divergence(p), of_batch),
    ):
        assert math.isclose(float(value), expected, rel_tol=1e-9)


def test_gradients_agree_with_differences() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    for term in (row_entropy, column_entropy, divergence, divergence_of_each):
        assert torch.autograd.gradcheck(lambda given, term=term: term(given.softmax(1)), (logits,))


def test_at_the_ends_all_is_finite() -> None:
    one_row = torch.eye(4)[[0, 0, 0]].requires_grad_()
    (row_entropy(one_row) + column_entropy(one_row) + divergence(one_row) + divergence_of_each(one_row)).backward()
    assert one_row.grad is not None
    assert bool(one_row.grad.isfinite().all())
    assert float(row_entropy(one_row)) == 0
    assert math.isclose(float(divergence(one_row)), math.log(4), rel_tol=1e-6)
    even = torch.full((3, 4), 0.25)
    assert math.isclose(float(column_entropy(even)), math.log(4), rel_tol=1e-6)
    assert abs(float(divergence(even))) < 1e-6
    none = torch.zeros(0, 4)
    assert [float(term(none)) for term in (row_entropy, column_entropy, divergence, divergence_of_each)] == [0.0] * 4


def test_the_batch_wide_divergence_leaves_each_sketch_its_row_and_the_printed_one_does_not() -> None:
    sure = torch.eye(4)
    assert abs(float(divergence(sure))) < 1e-6
    assert math.isclose(float(divergence_of_each(sure)), math.log(4), rel_tol=1e-6)


def test_terms_and_what_is_logged() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0]])
    step = of(logits)
    soft = Assignment(kind="soft")(step)
    assert set(soft) == {"row", "column"}
    torch.testing.assert_close(soft["column"], -column_entropy(logits.softmax(1)))
    assert float(step.logged["rows_used"]) == 0.75
    assert math.isclose(float(step.logged["usage_entropy"]), (0.5 * math.log(2) + 0.5 * math.log(4)) / math.log(4), rel_tol=1e-6)
    torch.testing.assert_close(Assignment(kind="hard")(step)["uniform"], divergence(logits.softmax(1)))
    torch.testing.assert_close(Assignment(kind="hard", per_sample=True)(step)["uniform"], divergence_of_each(logits.softmax(1)))
    with pytest.raises(InputError, match="kind = 'sift': expected one of .*; did you mean 'soft'"):
        Assignment(kind="sift")  # type: ignore[arg-type]
