import math
from collections.abc import Callable

import pytest
import torch

from sbirlib import build
from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Batch, Classifier, Encoder, Features
from sbirlib.losses.cross_entropy import CrossEntropy
from sbirlib.losses.fused_classifier import FusedClassifier, classifier_of
from sbirlib.losses.triplet import Triplet
from sbirlib.phase import Phase, Ramp, Weight
from sbirlib.pipeline import Pipeline
from sbirlib.spec import Spec


def features(rows: int = 5) -> Features:
    labels = torch.zeros(rows, dtype=torch.int64)
    return Features.of(Batch(torch.rand(rows, 3, 8, 8), labels, labels, labels), torch.randn(rows, 4))


@torch.no_grad()
def test_it_is_the_mean_log_probability() -> None:
    torch.manual_seed(0)
    heads, rows = [CrossEntropy(dim=4, categories=3, bias=True) for _ in range(3)], features()
    logits = FusedClassifier(heads).logits(rows)
    for i in range(5):
        for c in range(3):
            every = [head.logits(rows)[i].tolist() for head in heads]
            means = sum(math.log(math.exp(one[c]) / sum(math.exp(v) for v in one)) for one in every) / 3
            assert float(logits[i, c]) == pytest.approx(means, abs=1e-6)


def test_categories_rank_as_by_the_sum_of_logits() -> None:
    torch.manual_seed(0)
    heads, rows = [CrossEntropy(dim=4, categories=6) for _ in range(2)], features(50)
    total = heads[0].logits(rows) + heads[1].logits(rows)
    assert torch.equal(FusedClassifier(heads).logits(rows).argsort(1), total.argsort(1))


def phase(**weights: Weight | dict[str, Weight]) -> Phase:
    return Phase(steps=1, weights=weights, optimizer=Spec("optimizer", "sgd"), schedule=Spec("schedule", "constant"))


def test_a_classifier_that_no_phase_trains_is_left_out() -> None:
    one, other = CrossEntropy(dim=4, categories=3), CrossEntropy(dim=4, categories=3)
    losses = {"one": one, "triplet": Triplet(), "other": other}
    assert classifier_of(losses, [phase(one=1.0, triplet=1.0, other=0.0)]) is one
    assert classifier_of(losses, [phase(one=0.0), phase(other={"a": 0.0, "b": 0.5})]) is other
    assert classifier_of(losses, [phase(triplet=1.0, one={"a": 0.0})]) is None
    assert classifier_of(losses, []) is None
    both = classifier_of(losses, [phase(one=1.0), phase(other=Ramp(0.0, 1.0))])
    assert isinstance(both, FusedClassifier)
    assert list(both.classifiers) == [one, other]


@pytest.fixture
def two_heads(dataset: Dataset, fresh: Callable[[], Encoder]) -> Pipeline:
    model = build(
        encoder=fresh(),
        losses=["cross_entropy", "norm_softmax"],
        sampler={"name": "shuffled", "size": 16},
        transform={"size": 32},
        evaluators=["classification"],
        phases=[{"steps": 2, "optimizer": {"name": "adam", "lr": 1e-2}}],
    )
    return model.fit(dataset, progress=False, tensorboard=False)


def test_a_pipeline_names_sketches_by_all_classifiers_that_predict(two_heads: Pipeline, dataset: Dataset) -> None:
    def logits() -> torch.Tensor:
        encoded = two_heads.encode(dataset, split="train", progress=False)[0].logits
        assert encoded is not None
        return encoded

    heads: list[Classifier] = [loss for loss in two_heads.losses.values() if isinstance(loss, Classifier)]
    fused, alone = logits(), []
    for head, other in (heads, heads[::-1]):
        other.predicts = False
        alone.append(logits())
        other.predicts = True
        assert head.predicts
    torch.testing.assert_close(fused, (alone[0].log_softmax(1) + alone[1].log_softmax(1)) / 2)
    assert not torch.allclose(alone[0], alone[1])
    names = two_heads.classify([dataset.sketches.read(0)], k=6)[0]
    torch.testing.assert_close(torch.tensor([p for _, p in names]), fused[:1].softmax(1).sort(descending=True).values[0])
