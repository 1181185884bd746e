"""The figures of the papers: contents, and InputError for a model without the encoder that a figure needs."""

from typing import Any

import pytest
import torch

from benchmarks.figures.acnet import histogram, sketch_photo_distances, synthesised
from benchmarks.figures.attention import attention, grad_cam
from benchmarks.figures.landmarks import filters, landmarks
from benchmarks.figures.traits import spread, traits
from sbirlib import InputError, build
from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Batch
from sbirlib.pipeline import Pipeline
from sbirlib.testing.world import separable

INNER: dict[str, Any] = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 12}


@pytest.fixture
def data() -> Dataset:
    return separable()


def with_landmarks(**options: Any) -> Pipeline:
    encoder = {"encoder": {**INNER, "output_stride": 8}, "landmarks": 6, "filters": 6, **options}
    return build("landmarks", encoder=encoder, transform={"size": 32})


def with_traits() -> Pipeline:
    return build("vtd", encoder={"encoder": INNER, "descriptor": {"rows": 5, "dim": 10, "channels": 4}}, transform={"size": 32})


def test_landmarks_are_drawn_with_their_offsets(data: Dataset) -> None:
    pipeline = with_landmarks()
    still = landmarks(pipeline, data, rows=3)
    assert still.width > 2 * 96
    bias = pipeline.encoder.get_parameter("offsets.bias")
    with torch.no_grad():
        bias.fill_(1.0)
    assert landmarks(pipeline, data, rows=3).tobytes() != still.tobytes()
    with pytest.raises(InputError, match="this model has no landmarks"):
        landmarks(with_landmarks(landmarks=0), data)


def test_responses_of_filters_are_drawn(data: Dataset) -> None:
    pipeline = with_landmarks()
    picture = filters(pipeline, data, rows=3)
    assert picture.width > 2 * 96
    with torch.no_grad():
        pipeline.encoder.get_parameter("filters.weight").zero_()
    dead = filters(pipeline, data, rows=3)
    assert dead.size == picture.size
    assert dead.tobytes() != picture.tobytes()
    with pytest.raises(InputError, match="this model has no filters"):
        filters(with_landmarks(filters=0), data)


def test_dictionary_rows_are_drawn_with_their_sketches_and_counted(data: Dataset) -> None:
    pipeline = with_traits()
    assert traits(pipeline, data, rows=2, examples=3).height > 6 * 96
    images = torch.stack([pipeline.transform.prepare(data.sketches.read(i), 0) for i in range(36)]).float() / 255
    descriptor = pipeline.encoder.get_submodule("descriptor")
    labels = torch.zeros(36, dtype=torch.int64)
    with torch.no_grad():
        rows = descriptor.eval()(Batch(images, labels, labels, labels)).rows["assignment"].argmax(1)
    counts = torch.tensor([float(len(set(rows[6 * c : 6 * c + 6].tolist()))) for c in range(6)])
    assert spread(pipeline, data)["train"] == pytest.approx((float(counts.mean()), float(counts.std(correction=0))))
    with pytest.raises(InputError, match="this model has no dictionary"):
        traits(with_landmarks(), data)


def test_attention_is_the_grad_cam_of_the_gated_similarity(data: Dataset) -> None:
    pipeline = with_traits()
    assert attention(pipeline, data, rows=2).width > 6 * 96
    encoder: Any = pipeline.encoder.encoder
    images, modality = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    batch, gate = Batch(images, modality, modality, modality), torch.rand(1, 12)
    encoder.eval()
    maps_of_pairs = torch.cat(grad_cam(encoder, batch, gate))
    maps = encoder.feature_map(images).detach()

    def similarity(of: torch.Tensor) -> torch.Tensor:
        a, b = torch.nn.functional.normalize(encoder.embedding(encoder.backbone.forward_head(of)), dim=1)
        gated: torch.Tensor = (1 + gate[0]) * (a - b)
        return -gated.square().sum()

    slope = torch.autograd.functional.jacobian(similarity, maps)
    for row in range(2):
        expected = sum((slope[row, c].mean() * maps[row, c] for c in range(maps.shape[1])), start=torch.zeros(maps.shape[2:])).relu()
        torch.testing.assert_close(maps_of_pairs[row], expected)
    with pytest.raises(InputError, match="figure 3 is of the encoder adaptive"):
        attention(with_landmarks(), data)


def test_synthesised_photos_are_drawn_and_their_distances_are_computed(data: Dataset) -> None:
    one, other = (build("acnet", encoder={"encoder": INNER, "channels": 2, "blocks": 1}, transform={"size": 32}, seed=s) for s in (0, 1))
    assert synthesised({"one": one, "other": other}, data, rows=2).width > synthesised({"one": one}, data, rows=2).width
    distances = sketch_photo_distances({"one": one, "other": other}, data, each=2)
    assert list(distances) == ["w/o synthesis", "one", "other"]
    assert {len(values) for values in distances.values()} == {12}
    assert len(histogram(distances).axes[0].containers) == 3
    assert not (distances["one"] == distances["other"]).all()
    with pytest.raises(InputError, match="no encoder 'synthesis'"):
        sketch_photo_distances({"none": with_landmarks()}, data)
