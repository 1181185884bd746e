"""The embedding layer's start from an SVD of the pretrained classifier."""

import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sbirlib import Pipeline, build, load
from sbirlib.encoders.backbone import Backbone
from sbirlib.encoders.start import start_from_classifier, svd_map
from sbirlib.encoders.weights import read_weights
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch

RESNET = "test_resnet"  # timm's own tiny model
LITE0 = "weights/tf_efficientnet_lite0_fp16.safetensors"


def low_rank(classifier: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The best approximation of rank `dim` to a matrix [K, C], vector by vector, and the released code's factor r, from eigenvectors of A^T A."""
    eigenvalues, vectors = torch.linalg.eigh(classifier.T @ classifier)
    values = eigenvalues.clamp(min=0).sqrt().flip(0)
    approximation = torch.zeros_like(classifier)
    for vector in vectors.T.flip(0)[:dim]:
        approximation += torch.outer(classifier @ vector, vector)
    return approximation, values.sum() / values[:dim].sum()


def published(tmp_path: Path, change: dict[str, Tensor | None] | None = None) -> tuple[str, dict[str, Tensor]]:
    """A weights file of a model with its classifier, and its tensors; `change` replaces tensors, or leaves them out."""
    torch.manual_seed(1)
    tensors: dict[str, Any] = timm.create_model(RESNET).state_dict() | (change or {})
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    save_file(tensors, tmp_path / "w.safetensors")
    return str(tmp_path / "w.safetensors"), tensors


def encoder(weights: str, *, seed: int = 0, **options: Any) -> Backbone:
    torch.manual_seed(seed)
    defaults: dict[str, Any] = {"backbone": RESNET, "dim": 8, "weights": weights, "start": "svd"}
    return Backbone(**defaults | options).eval()


def batch(count: int = 4, size: int = 32) -> Batch:
    images, labels = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)), torch.arange(count)
    return Batch(images, torch.tensor([SKETCH, PHOTO] * count)[:count], labels, labels)


@pytest.mark.parametrize(("shape", "dim"), [((30, 12), 1), ((30, 12), 5), ((30, 12), 12), ((7, 12), 4), ((7, 12), 7)])
def test_inner_products_are_those_of_the_best_approximation_of_the_classifier(shape: tuple[int, int], dim: int) -> None:
    torch.manual_seed(0)
    classifier, x, y = torch.randn(shape, dtype=torch.float64), torch.randn(12, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    approximation, r = low_rank(classifier, dim)
    directions = svd_map(classifier, dim)
    assert directions.shape == (dim, 12)
    torch.testing.assert_close((directions @ x) @ (directions @ y), r.square() * ((approximation @ x) @ (approximation @ y)))
    if dim == min(shape):
        torch.testing.assert_close(directions.T @ directions, classifier.T @ classifier)


def test_the_layer_is_the_map_rotated_and_has_no_bias() -> None:
    classifier = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    layers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        layer = nn.Linear(12, 5)
        start_from_classifier(layer, {"fc.weight": classifier}, "fc", source="w")
        layers.append(layer)
    expected = svd_map(classifier, 5)
    for layer in layers:
        assert not layer.bias.any()
        torch.testing.assert_close(layer.weight.T @ layer.weight, expected.T @ expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(layers[0].weight, layers[1].weight, atol=1e-2)
    assert not torch.allclose(layers[0].weight, expected, atol=1e-2)


@pytest.mark.parametrize("by_name", [False, True])
def test_the_embedding_starts_from_the_classifier_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_name: bool) -> None:
    file, tensors = published(tmp_path)
    monkeypatch.setattr("sbirlib.encoders.backbone.fetch_weights", lambda *_: file)
    model, inputs = encoder("" if by_name else file), batch()
    model.load_weights()
    state = model.state_dict()
    assert state.keys() == Backbone(backbone=RESNET, dim=8, pretrained=False).state_dict().keys(), "the classifier is no part of it"
    assert all(torch.equal(state[f"backbone.{name}"], tensors[name]) for name in model.backbone.state_dict())
    approximation, r = low_rank(tensors["fc.weight"].double(), 8)
    features = model.backbone(model.prepare(inputs.images)).double() @ approximation.T
    embedding = model(inputs).embedding.double()
    torch.testing.assert_close(embedding @ embedding.T, r.square() * features @ features.T, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model(inputs).vector.double(), F.normalize(embedding), rtol=1e-5, atol=1e-6)


def test_loading_again_does_not_undo_training(tmp_path: Path) -> None:
    model = encoder(published(tmp_path)[0])
    model.load_weights()
    with torch.no_grad():
        model.embedding.get_parameter("weight").zero_()
    model.load_weights()
    assert not model.embedding.get_parameter("weight").any()


def test_the_default_start_is_random(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Backbone(backbone=RESNET, dim=8, weights=published(tmp_path)[0])
    before = model.embedding.get_parameter("weight").clone()
    model.load_weights()
    assert torch.equal(model.embedding.get_parameter("weight"), before)


@pytest.mark.parametrize("export", [False, True])
def test_a_model_needs_no_weights_file_once_it_is_written(tmp_path: Path, export: bool) -> None:
    file, _ = published(tmp_path)
    table = {"name": "backbone", "backbone": RESNET, "dim": 8, "weights": file, "start": "svd"}
    pipeline: Pipeline = build({"encoder": table, "transform": {"size": 32}, "losses": [], "phases": []})
    digest = pipeline.encoder_digest()
    (pipeline.export if export else pipeline.save)(tmp_path / "model.safetensors")
    Path(file).unlink()
    again = load(tmp_path / "model.safetensors")
    assert again.encoder_digest() == digest
    torch.testing.assert_close(again.encoder(batch()).vector, pipeline.encoder(batch()).vector)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, 'start = "svd" initialises the embedding layer, which dim = 0 leaves out'),
        ({"weights": None, "pretrained": False}, 'start = "svd" needs the classifier of pretrained weights: set pretrained = true'),
        ({"backbone": nn.Flatten(), "weights": None}, "backbone is a module of your own, so start cannot apply"),
        ({"start": "pca"}, "start = 'pca': expected one of 'random', 'svd'"),
    ],
)
def test_a_start_without_an_embedding_or_weights_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder(**{"weights": "w.safetensors"} | options)


@pytest.mark.parametrize(
    ("change", "dim", "message"),
    [
        ({"fc.weight": None, "fc.bias": None}, 8, r"needs a classifier, and the weights in '.*' have none: give weights with one"),
        ({"fc.weight": torch.randn(1000, 9)}, 8, r"needs a classifier of the backbone's \d+ features, and fc in '.*' maps 9"),
        ({"fc.weight": torch.randn(3, 96)}, 8, r"at most the rank of the classifier, 3, and dim = 8: set dim = 3 or less"),
        ({"fc.weight": torch.randn(1000, 5) @ torch.randn(5, 96)}, 6, r"at most the rank of the classifier, 5, and dim = 6"),
        ({}, 97, r"at most the rank of the classifier, 96, and dim = 97"),
    ],
)
def test_weights_without_a_classifier_of_that_rank_are_refused(
    tmp_path: Path, change: dict[str, Tensor | None], dim: int, message: str
) -> None:
    model = encoder(published(tmp_path, change)[0], dim=dim)
    with pytest.raises(InputError, match=message):
        model.load_weights()
    with pytest.raises(InputError, match="not loaded"):
        model(batch())


def test_two_classifiers_are_none_and_a_convolution_is_one() -> None:
    classifier = torch.randn(30, 12, 1, 1, generator=torch.Generator().manual_seed(0))
    layer = nn.Linear(12, 5)
    with pytest.raises(InputError, match="needs a classifier"):
        start_from_classifier(layer, {"head.weight": classifier, "head_dist.weight": classifier}, ("head", "head_dist"), source="w")
    with pytest.raises(InputError, match="needs a classifier"):
        start_from_classifier(layer, {"head.weight": classifier}, None, source="w")
    start_from_classifier(layer, {"head.weight": classifier}, "head", source="w")
    expected = svd_map(classifier.flatten(1), 5)
    torch.testing.assert_close(layer.weight.T @ layer.weight, expected.T @ expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif("SBIRLIB_DATA" not in os.environ, reason="SBIRLIB_DATA names no folder with the shared weights")
def test_the_shared_weights() -> None:
    file = str(Path(os.environ["SBIRLIB_DATA"]) / LITE0)
    model, inputs = encoder(file, backbone="tf_efficientnet_lite0", dim=512), batch(6, 96)
    model.load_weights()
    approximation, _ = low_rank(read_weights(file)["classifier.weight"].double(), 512)
    expected = F.normalize(model.backbone(model.prepare(inputs.images)).double() @ approximation.T)
    vectors = model(inputs).vector.double()
    torch.testing.assert_close(vectors @ vectors.T, expected @ expected.T, atol=1e-4, rtol=1e-4)
