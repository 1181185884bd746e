"""Multi-similarity loss against the paper's equations, term by term."""

import math
from types import SimpleNamespace

import pytest
import torch
from sbirlib_multisim.multi_similarity import MultiSimilarity


def literal(vectors, category, alpha, beta, threshold, epsilon):
    """Equations 10 to 12 with plain loops."""
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    similarity = [[float(a @ b) for b in unit] for a in unit]
    rows = range(len(category))
    total = 0.0
    for i in rows:
        positives = [k for k in rows if k != i and category[k] == category[i]]
        negatives = [k for k in rows if category[k] != category[i]]
        worst_negative = max((similarity[i][k] for k in negatives), default=-math.inf)
        worst_positive = min((similarity[i][k] for k in positives), default=math.inf)
        kept_positives = [k for k in positives if similarity[i][k] < worst_negative + epsilon]
        kept_negatives = [k for k in negatives if similarity[i][k] > worst_positive - epsilon]
        total += math.log(1 + sum(math.exp(-alpha * (similarity[i][k] - threshold)) for k in kept_positives)) / alpha
        total += math.log(1 + sum(math.exp(beta * (similarity[i][k] - threshold)) for k in kept_negatives)) / beta
    return total / len(category)


@pytest.mark.parametrize("category", [[0, 0, 1, 1, 2, 2, 0, 1], [0] * 8, list(range(8))])
def test_it_is_the_papers(category):
    vectors = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    features = SimpleNamespace(vector=vectors, category=torch.tensor(category))
    options = {"alpha": 2.0, "beta": 50.0, "threshold": 0.5, "epsilon": 0.1}
    value = MultiSimilarity(**options)(SimpleNamespace(features=features))
    assert float(value) == pytest.approx(literal(vectors, category, **options), abs=1e-9)
