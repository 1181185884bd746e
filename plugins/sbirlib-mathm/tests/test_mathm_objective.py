"""The objective of the rows of table 3, against a literal transcription of Huang et al. 2022, eq. 1, 2, 4, 7, 8 and 11 to 13."""

import pytest
import torch
from torch import Tensor

from sbirlib import build
from sbirlib.data.batches import Prepared, load
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Step
from sbirlib.testing.world import separable
from sbirlib.training.objective import terms, weighted_sum
from sbirlib.training.steps import forward

ALPHA, FLOOR = 0.2, 0.1
EQUATIONS = {  # modalities of positive and negative, for a sketch and for a photo as anchor
    "cross": {SKETCH: (PHOTO, PHOTO), PHOTO: (SKETCH, SKETCH)},  # eq. 4
    "within": {SKETCH: (SKETCH, SKETCH), PHOTO: (PHOTO, PHOTO)},  # eq. 7
    "hybrid": {SKETCH: (PHOTO, SKETCH), PHOTO: (SKETCH, PHOTO)},  # eq. 8
}


def classification(step: Step, weight: Tensor) -> Tensor:
    """L_cls of eq. 2, [], for W [C, D], the mean over images."""
    rows = []
    for f, y in zip(step.features.embedding, step.features.category.tolist(), strict=True):
        exponentials = [(weight[c] @ f).exp() for c in range(len(weight))]
        rows.append(-(exponentials[y] / sum(exponentials)).log())
    return torch.stack(rows).mean()


def violations(step: Step, kind: str, anchor: int) -> list[Tensor]:
    """d_ap - d_an + alpha [] of eq. 4, 7 or 8 for every anchor of one modality, its positive and negative chosen by eq. 5."""
    f = step.features.embedding / step.features.embedding.square().sum(1, keepdim=True).sqrt()
    m, y, images = step.features.modality.tolist(), step.features.category.tolist(), range(len(f))
    m_p, m_n = EQUATIONS[kind][anchor]
    values = []
    for a in (i for i in images if m[i] == anchor):
        near = [(f[a] - f[i]).square().sum().sqrt() for i in images if i != a and m[i] == m_p and y[i] == y[a]]
        far = [(f[a] - f[j]).square().sum().sqrt() for j in images if m[j] == m_n and y[j] != y[a]]
        values.append(max(near) - min(far) + ALPHA)
    return values


def printed(step: Step, weight: Tensor, kinds: list[str], *, lambda_: float, weighting: bool) -> Tensor:
    """L_all of eq. 1, [], where the two brackets of eq. 4, 7 and 8 are halved, as the mean of eq. 9 over both anchors does."""
    losses, g = [], []
    for kind in kinds:
        by_anchor = [violations(step, kind, anchor) for anchor in (SKETCH, PHOTO)]
        losses.append(sum(torch.stack(side).clamp(min=0).mean() for side in by_anchor) / 2)
        g.append(sum(float(v > 0) for side in by_anchor for v in side) / sum(map(len, by_anchor)))
    w = [sum(g) / len(g) / max(g_i, FLOOR) if weighting else 1.0 for g_i in g]
    return classification(step, weight) + lambda_ * sum(w_i * loss for w_i, loss in zip(w, losses, strict=True))


@pytest.mark.parametrize("lambda_", [1.0, 0.5])
@pytest.mark.parametrize("name", ["mathm-ce", "mathm-baseline", "mathm-within", "mathm-hybrid", "mathm-unweighted", "mathm"])
def test_the_total_is_the_printed_objective(name: str, lambda_: float) -> None:
    torch.manual_seed(0)
    data, encoder = separable(), {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 16}
    options = {} if name == "mathm-ce" else {"phases.0.weights.balanced_triplet": lambda_}
    pipeline = build(name, encoder=encoder, transform={"size": 32}, sampler={"categories": 4, "per_modality": 3}, **options)
    plan = pipeline.plan(data)
    plan.model.double()
    phase, sampler = plan.phases[0].phase, plan.phases[0].sampler
    b = next(load(Prepared(data.train, pipeline.transform), [sampler.batches(data.train, seed=0, epoch=0)[0]], seed=0, epoch=0))
    step, _ = forward(plan.model, phase, Batch(b.images.double(), b.modality, b.category, b.instance), progress=0.0)
    total = weighted_sum(terms(plan.model, phase, step), phase, 0.0)
    kinds = list(step.triplets) if step.miner else []
    weight = plan.model.get_parameter("losses.cross_entropy.classifier.weight")
    expected = printed(step, weight, kinds, lambda_=lambda_, weighting=name == "mathm")
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(value, step.features.embedding, retain_graph=True)[0] for value in (total, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
