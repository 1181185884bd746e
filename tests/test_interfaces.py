"""Interfaces: features, unit vectors, distances and triplets of a step, and its mean."""

import pytest
import torch

from sbirlib.interfaces import Batch, Encoder, Features, Miner, Step, Triplets


def batch(count: int = 4) -> Batch:
    labels = torch.arange(count)
    return Batch(torch.rand(count, 3, 4, 4), labels % 2, labels // 2, labels)


class Plain(Encoder):
    dim = vector_dim = 5

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, batch: Batch) -> Features:
        embedding = batch.images.flatten(1)[:, :5]
        return Features.of(batch, embedding, vector=embedding * self.scale if self.scale != 1.0 else None)


def test_features_promote_half_precision_and_normalise() -> None:
    features = Features.of(batch(), torch.randn(4, 5, dtype=torch.bfloat16))
    assert features.embedding.dtype == features.vector.dtype == torch.float32
    assert torch.allclose(features.vector.norm(dim=1), torch.ones(4))
    assert Features.of(batch(), torch.randn(4, 5, dtype=torch.float64)).vector.dtype == torch.float64
    with pytest.raises(ValueError, match=r"embedding \[B, D\] with B = 4"):
        Features.of(batch(), torch.randn(3, 5))


def test_rows_travel_together() -> None:
    features = Features.of(batch(), torch.randn(4, 5), rows={"gate": torch.arange(4)})
    subset = features[torch.tensor([2, 0])]
    assert subset.rows["gate"].tolist() == subset.source.tolist() == subset.instance.tolist() == [2, 0]


def test_vectors_that_are_not_of_unit_length_are_refused() -> None:
    assert Plain().query_vectors(batch()).shape == (4, 1, 5)
    with pytest.raises(ValueError, match="not of unit length"):
        Plain(scale=2.0).gallery_vectors(batch())


def test_distances_and_triplets_are_computed_once_and_only_when_read() -> None:
    calls: list[str] = []

    class Counting(Plain):
        def distances(self, features: Features) -> torch.Tensor:
            calls.append("distances")
            return super().distances(features)

    class First(Miner):
        def forward(self, features: Features, distances: torch.Tensor) -> dict[str, Triplets]:
            calls.append(f"miner, gradient {distances.requires_grad or features.vector.requires_grad}")
            return {}

    encoder, images = Counting(), batch()
    images.images.requires_grad_()
    step = Step(encoder(images), encoder=encoder, batch=images, miner=First())
    assert calls == []
    assert step.triplets == {} == step.triplets
    assert step.distances is step.distances
    assert calls == ["distances", "miner, gradient False"]
    assert step.distances.requires_grad
    with pytest.raises(ValueError, match="no miner"):
        _ = Step(encoder(images), encoder=encoder, batch=images).triplets


def test_the_mean_of_nothing_is_zero_with_a_gradient() -> None:
    values = torch.ones(3, requires_grad=True)
    step = Step(Features.of(batch(), torch.randn(4, 5)), encoder=Plain(), batch=batch())
    mean = step.mean(values, keep=torch.tensor([False, False, False]))
    mean.backward()
    assert mean.item() == 0
    assert values.grad is not None
    assert step.mean(torch.tensor([1.0, 2.0, 6.0]), keep=torch.tensor([True, False, True])).item() == 3.5


def test_shapes_are_checked_while_tests_run() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(Exception, match="Type-check error|type"):
        Batch(torch.zeros(3, 3, 8, 8), labels, labels, labels)
