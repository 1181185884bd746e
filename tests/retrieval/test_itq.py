import numpy as np
import pytest
import torch

from sbirlib.errors import InputError
from sbirlib.retrieval.itq import ITQ, principal_components, rotation, start


def clusters(n: int = 400, dim: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, dim, generator=generator)
    return torch.nn.functional.normalize(centres[torch.arange(n) % 10] + 0.5 * torch.randn(n, dim, generator=generator), dim=1)


def literal(v: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """One round of Gong et al. 2013, section 3.2: fix R and update B = sgn(V R); fix B and minimise |B - V R| by the SVD
    B^T V = S Omega S'^T, R = S' S^T."""
    b = np.array([[1.0 if value >= 0 else -1.0 for value in row] for row in v @ turn])
    s, _, s_hat_transposed = np.linalg.svd(b.T @ v)
    turned: np.ndarray = s_hat_transposed.T @ s.T
    return turned


def loss(v: np.ndarray, turn: np.ndarray) -> float:
    return float(((np.where(v @ turn >= 0, 1, -1) - v @ turn) ** 2).sum())


def test_the_rotation_is_that_of_the_literal_rounds_and_loses_less_each_time() -> None:
    vectors = clusters().double()
    components = (vectors - vectors.mean(0)) @ principal_components(vectors - vectors.mean(0), 8)
    v, turn = components.numpy(), start(8).numpy()
    losses = [loss(v, turn)]
    for rounds in range(1, 8):
        turn = literal(v, turn)
        assert np.allclose(rotation(components, rounds=rounds).numpy(), turn, atol=1e-9)
        losses.append(loss(v, turn))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.05 * len(v)


def test_components_are_orthogonal_and_vary_most_first() -> None:
    rows = clusters().double() - clusters().double().mean(0)
    components = principal_components(rows, 8)
    assert torch.allclose(components.T @ components, torch.eye(8, dtype=torch.float64), atol=1e-9)
    variances = (rows @ components).var(0)
    assert torch.equal(variances, variances.sort(descending=True).values)
    assert torch.allclose(variances, torch.linalg.eigvalsh(rows.T.cov()).flip(0)[:8])


def test_the_inner_product_of_codes_is_their_hamming_distance() -> None:
    codes = ITQ(bits=16).fit(clusters()).codes(clusters(seed=1))
    hamming = (codes[:, None] != codes[None]).sum(-1)
    assert torch.allclose(codes @ codes.T, 1 - 2 * hamming / 16, atol=1e-6)


def test_near_vectors_have_near_codes() -> None:
    vectors = clusters()
    codes = ITQ(bits=16).fit(vectors).codes(vectors)
    same = (torch.arange(400)[:, None] - torch.arange(400)) % 10 == 0
    similarity = codes @ codes.T
    assert similarity[same].mean() > similarity[~same].mean() + 0.5


def test_queries_of_several_vectors_have_as_many_codes() -> None:
    itq = ITQ(bits=16).fit(clusters())
    several = clusters(24).reshape(4, 6, 32)
    assert torch.equal(itq.codes(several), itq.codes(several.flatten(0, 1)).reshape(4, 6, 16))


def test_fitting_repeats_itself() -> None:
    assert torch.equal(ITQ(bits=16).fit(clusters()).codes(clusters(seed=1)), ITQ(bits=16).fit(clusters()).codes(clusters(seed=1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ITQ(bits=0), "at least one bit, got bits=0"),
        (lambda: ITQ(bits=64).fit(clusters()), "fitted on as many vectors of as many numbers, got 400 of 32"),
        (lambda: ITQ(bits=16).fit(clusters(8)), "got 8 of 32: take fewer bits"),
        (lambda: ITQ(bits=16).fit(clusters() * torch.nan), "NaN or infinity"),
        (lambda: ITQ(bits=16).codes(clusters()), "were not fitted"),
        (lambda: ITQ(bits=16).fit(clusters()).codes(clusters(dim=8)), "vectors of 32 numbers, got 8"),
    ],
)
def test_what_cannot_be_coded_is_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
