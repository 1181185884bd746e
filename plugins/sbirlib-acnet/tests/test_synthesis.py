"""Encoder `synthesis`: rows, searched vectors, and the gradients that reach the generator."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor

from sbirlib import Pipeline, build
from sbirlib.errors import InputError
from sbirlib.exchange.onnx import export_onnx
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features
from sbirlib.testing import check_part
from sbirlib.testing.world import separable
from sbirlib.visual.curves import read_log
from sbirlib_acnet.synthesis import Synthesis

SMALL: dict[str, Any] = {
    "encoder": {
        "name": "synthesis",
        "channels": 4,
        "blocks": 1,
        "encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 16},
    },
    "transform": {"size": 32},
    "sampler": {"pairs": 8},
}


def pictures() -> Batch:
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.tensor([SKETCH, PHOTO, PHOTO, SKETCH, PHOTO]), torch.arange(5), torch.arange(5))


class Tagged(Encoder):
    """Three numbers of an image, and the modality it was told."""

    dim = vector_dim = 4

    def forward(self, batch: Batch) -> Features:
        return Features.of(batch, torch.cat([batch.images.mean((2, 3)), batch.modality[:, None].float()], 1))


@pytest.fixture
def synthesis() -> Synthesis:
    torch.manual_seed(0)
    return Synthesis(encoder=Tagged(), channels=2, blocks=1)


def test_training_gives_sketches_photos_and_synthesised_photos(synthesis: Synthesis) -> None:
    batch = pictures()
    features = synthesis.train()(batch)
    assert features.source.tolist() == [0, 1, 2, 3, 4, 0, 3]
    assert features.view.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert features.modality.tolist() == [0, 1, 1, 0, 1, 0, 0]
    assert features.category.tolist() == [0, 1, 2, 3, 4, 0, 3]
    assert features.embedding[:, 3].tolist() == [0, 1, 1, 0, 1, 1, 1]  # for the encoder a synthesised image is a photo
    synthesised = synthesis.translator.generator(batch.images[[0, 3]])
    assert torch.allclose(features.embedding[:5, :3], batch.images.mean((2, 3)))
    assert torch.allclose(features.embedding[5:, :3], synthesised.mean((2, 3)), atol=1e-6)
    assert torch.allclose(features.images["synthesised"][[0, 3]], synthesised, atol=1e-6)
    assert torch.equal(features.images["synthesised"][[1, 2, 4]], batch.images[[1, 2, 4]])
    assert torch.allclose(features.images["identity"][[1]], synthesis.translator.generator(batch.images[[1]]), atol=1e-6)


def test_a_sketch_is_searched_as_its_photo_and_a_photo_as_it_is(synthesis: Synthesis) -> None:
    batch, synthesis = pictures(), synthesis.eval()
    features, synthesised = synthesis(batch), synthesis.translator.generator(batch.images[[0, 3]])
    assert features.source.tolist() == [0, 1, 2, 3, 4]
    assert features.modality.tolist() == batch.modality.tolist()
    photos = torch.nn.functional.normalize(torch.cat([synthesised.mean((2, 3)), torch.ones(2, 1)], 1), dim=1)
    assert torch.allclose(synthesis.query_vectors(batch)[[0, 3], 0], photos, atol=1e-6)
    assert torch.allclose(
        synthesis.gallery_vectors(batch)[1], torch.nn.functional.normalize(torch.tensor([*batch.images[1].mean((1, 2)), 1]), dim=0)
    )
    synthesis.query = "sketch"
    plain = torch.nn.functional.normalize(torch.cat([batch.images[[0, 3]].mean((2, 3)), torch.zeros(2, 1)], 1), dim=1)
    assert torch.allclose(synthesis.query_vectors(batch)[[0, 3], 0], plain)
    synthesis.query = "both"
    queries = synthesis.query_vectors(batch)[[0, 3], 0]
    assert torch.allclose(queries.norm(dim=1), torch.ones(2))
    scores = queries @ synthesis.gallery_vectors(batch)[[1, 2, 4]].T
    cosines = torch.stack([photos, plain]) @ synthesis.gallery_vectors(batch)[[1, 2, 4]].T
    assert torch.allclose(scores, cosines.mean(0) / ((photos + plain) / 2).norm(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("query", ["synthesised", "sketch", "both"])
def test_a_row_in_eval_mode_is_that_of_the_query(synthesis: Synthesis, query: Literal["synthesised", "sketch", "both"]) -> None:
    batch, synthesis = pictures(), synthesis.eval()
    synthesis.query = query
    features = synthesis(batch)
    assert features.source.tolist() == [0, 1, 2, 3, 4]
    assert torch.allclose(features.vector, synthesis.query_vectors(batch)[:, 0], atol=1e-6)
    assert torch.allclose(synthesis.gallery_vectors(batch[batch.modality == PHOTO]), features.vector[batch.modality == PHOTO], atol=1e-6)
    means = {"sketch": batch.images.mean((2, 3)), "synthesised": features.images["synthesised"].mean((2, 3))}
    expected = sum(means.values()) / 2 if query == "both" else means[query]
    assert torch.allclose(features.embedding[:, :3], expected, atol=1e-6)


@pytest.mark.parametrize("query", ["sketch", "both"])
def test_training_is_the_same_whatever_is_searched(synthesis: Synthesis, query: Literal["sketch", "both"]) -> None:
    for sketches in (True, False):
        synthesis.sketches, synthesis.query = sketches, "synthesised"
        expected = synthesis.train()(pictures())
        synthesis.query = query
        assert torch.equal(synthesis(pictures()).embedding, expected.embedding)


class Long(Tagged):
    """Vectors that are not of unit length."""

    def query_vectors(self, batch: Batch) -> Tensor:
        return 2 * super().query_vectors(batch)


def test_vectors_of_any_length_are_not_averaged() -> None:
    with pytest.raises(InputError, match="query = 'both' averages vectors of unit length, and those of this encoder are not"):
        Synthesis(encoder=Long(), channels=2, blocks=1, query="both").eval().query_vectors(pictures())


@pytest.mark.parametrize("options", [{"query": "both"}, {"residual": True}])
def test_the_encoder_conforms_with_other_options(options: dict[str, Any]) -> None:
    check_part("encoder", "synthesis", options={"channels": 2, "blocks": 1, **options})


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """A graph's batch size is a symbol, which is no int."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_the_mean_of_both_vectors_has_an_onnx_graph(without_shape_checks: None, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    assert export_onnx(small("acnet", **{"encoder.query": "both"}), tmp_path).difference < 1e-4


def test_two_stages_train_on_what_the_generator_made(synthesis: Synthesis) -> None:
    two = Synthesis(encoder=Tagged(), channels=2, blocks=1, sketches=False).train()
    assert two(pictures()).source.tolist() == [0, 1, 2, 3, 4]
    assert "identity" not in two.provides
    assert "identity" in synthesis.provides
    with pytest.raises(InputError, match="query = 'photo': expected one of 'synthesised', 'sketch', 'both'"):
        Synthesis(encoder=Tagged(), query="photo")  # type: ignore[arg-type]


def small(name: str, **more: Any) -> Pipeline:
    encoder = {**SMALL["encoder"], "sketches": "two-stage" not in name}
    return build(name, **{**SMALL, "encoder": encoder, **more})


def generator(pipeline: Pipeline) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in pipeline.encoder.state_dict().items() if name.startswith("translator.")}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_retrievals_gradient_reaches_the_generator_in_joint_training() -> None:
    """The paper's claim: with nothing but eq. 5 in the phase, G moves."""
    pipeline = small("acnet", **{"phases.0.steps": 2, "phases.0.weights": {"norm_softmax": 10.0}, "phases.0.parameters": []})
    before = generator(pipeline)
    pipeline.fit(separable(), device="cpu", progress=False, tensorboard=False)
    after = generator(pipeline)
    assert not any(torch.equal(before[name], after[name]) for name in before if name.endswith("weight"))


def test_a_residual_generator_starts_from_the_encoder_without_synthesis() -> None:
    """At step 0 queries are those of the encoder alone; after one step every layer of G has a gradient."""
    weights = {"phases.0.weights": {"norm_softmax": 10.0}, "phases.0.parameters": [], "phases.0.steps": 2}
    pipeline = small("acnet", **weights, **{"encoder.residual": True})
    synthesis, batch = pipeline.encoder.eval(), pictures()
    assert isinstance(synthesis, Synthesis)
    with torch.no_grad():
        assert torch.equal(synthesis.query_vectors(batch), synthesis.encoder.query_vectors(batch))
    gradients = []
    for _ in pipeline.steps(separable(), device="cpu"):
        layers = [layer for name, layer in synthesis.translator.named_parameters() if name.endswith("weight")]
        gradients.append([bool(layer.grad is not None and layer.grad.any()) for layer in layers])
    assert gradients[0] == [False] * (len(layers) - 1) + [True], "at first the last layer alone"
    assert all(gradients[1])


def test_it_does_not_in_two_stages() -> None:
    """After its own phase the generator is as it was left, to the bit."""
    few = {"losses.patch_adversary.channels": 4, "losses.cycle.channels": 4, "losses.cycle.blocks": 1, "phases.0.steps": 2}
    once = small("acnet-two-stage", **few, **{"phases.1.steps": 1})
    start = generator(once)
    once.fit(separable(), device="cpu", progress=False, tensorboard=False)
    more = small("acnet-two-stage", **few, **{"phases.1.steps": 3})
    more.fit(separable(), device="cpu", progress=False, tensorboard=False)
    assert not same(start, generator(once))
    assert same(generator(once), generator(more))
    assert not torch.equal(once.encoder.state_dict()["encoder.embedding.weight"], more.encoder.state_dict()["encoder.embedding.weight"])


def test_the_discriminator_wins_against_a_frozen_generator_and_loses_against_one_that_trains(tmp_path: Path) -> None:
    apart = {"sketch": 0.0, "photo": 1.0, "synthesised": 1.0}  # its proxies alone are trained in the encoder's turn, all else is frozen
    frozen = {
        "steps": 25,
        "weights": {"patch_adversary": 1.0, "norm_softmax": apart},
        "discriminator": {"name": "adam", "lr": 2e-3},
        "parameters": [{"of": "encoder", "frozen": True}],
    }
    trains = {
        "steps": 15,
        "weights": {"patch_adversary": 1.0},
        "optimizer": {"name": "adam", "lr": 1e-2},
        "discriminator": {"name": "adam", "lr": 1e-4},
        "parameters": [{"of": "encoder.encoder", "frozen": True}],
    }
    pipeline = small("acnet-synthesis-alone", phases=[frozen, trains])
    pipeline.fit(separable(), out=tmp_path, device="cpu", log_every=1, progress=False, tensorboard=False)
    accuracy = [record["logged"]["patch_accuracy"] for record in read_log(tmp_path) if "losses" in record]
    assert len(accuracy) == 40
    assert np.mean(accuracy[20:25]) > 0.9
    assert np.mean(accuracy[-10:]) < 0.7
