import math

import pytest
import torch
from torch import Tensor

from sbirlib_vtd.dictionary import gumbel_one_hot, one_hot, random_rows, reinitialise_dead


def test_rows_are_of_unit_length_and_of_any_direction() -> None:
    rows = random_rows(300, 256)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(300))
    assert float((rows @ rows.T - torch.eye(300)).abs().max()) < 0.5


def test_the_likeliest_row_is_taken() -> None:
    logits = torch.tensor([[0.1, 0.9, 0.3], [2.0, 2.0, 1.0]])
    assert one_hot(logits).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_gumbel_draws_rows_as_often_as_softmax_says() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    samples = gumbel_one_hot(logits.expand(20_000, -1))
    assert torch.equal(samples.round(), one_hot(samples))
    torch.testing.assert_close(samples.mean(0), logits[0].softmax(0), atol=0.012, rtol=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_gumbels_gradient_is_that_of_the_softmax(temperature: float) -> None:
    """Eq. 3 literally, with the same noise."""
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(3)
    (gumbel_one_hot(logits, temperature) * weight).sum().backward()
    torch.manual_seed(3)
    uniform = torch.rand(5, 7)
    other = logits.detach().clone().requires_grad_()
    noise = torch.tensor([[-math.log(-math.log(float(u))) for u in row] for row in uniform])
    (torch.softmax((other + noise) / temperature, 1) * weight).sum().backward()
    assert logits.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(logits.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_rows_that_nobody_took_come_back_near_the_most_taken() -> None:
    dictionary = random_rows(4, 6)
    counts = torch.tensor([3, 0, 7, 0])
    after = reinitialise_dead(dictionary, counts, noise=0.05, seed=5)

    def literal(row: int) -> Tensor:
        noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(5))[row]
        return torch.tensor([float(d) * (1 + 0.05 * float(n)) for d, n in zip(dictionary[2], noise, strict=True)])

    assert torch.equal(after[[0, 2]], dictionary[[0, 2]])
    for row in (1, 3):
        torch.testing.assert_close(after[row], literal(row))
    assert torch.equal(after, reinitialise_dead(dictionary, counts, noise=0.05, seed=5))
    assert not torch.equal(after, reinitialise_dead(dictionary, counts, noise=0.05, seed=6))


def test_without_a_count_nothing_changes() -> None:
    dictionary = random_rows(4, 6)
    assert torch.equal(reinitialise_dead(dictionary, torch.zeros(4, dtype=torch.int64), noise=0.05, seed=0), dictionary)
