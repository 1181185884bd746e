"""Vectors less the mean of their modality: against a transcription, through training, in an index, and refused where it means nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import TinyEncoder

from sbirlib import InputError, Pipeline, build, load, open_index
from sbirlib.data.dataset import Dataset
from sbirlib.data.split import split
from sbirlib.encoders.centred import Centred
from sbirlib.encoders.projection import Projection
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Step
from sbirlib.testing.world import batch


def images(seed: int = 0, count: int = 12) -> Batch:
    return batch(categories=count // 4, instances=2, size=32, seed=seed)


def step_of(encoder: Centred, own: Batch) -> Step:
    encoder.encoder.eval()  # no dropout
    return Step(encoder(own), encoder=encoder, batch=own)


def test_means_are_those_of_the_batches_of_each_modality(encoder: TinyEncoder) -> None:
    centred = Centred(encoder=encoder, batches=3).train()
    for seed in range(2):
        centred.after_step(step_of(centred, images(seed)))
    both = [encoder(images(seed)) for seed in range(2)]
    for modality in (SKETCH, PHOTO):
        mean = torch.stack([f.vector[f.modality == modality].mean(0) for f in both]).mean(0)
        assert torch.allclose(centred.means[modality], mean, atol=1e-6)
    for seed in range(2, 6):
        centred.after_step(step_of(centred, images(seed)))
    assert centred.seen.tolist() == [3, 3], "later batches count a third each"


def test_search_sees_centred_vectors_and_training_those_of_the_inner_encoder(encoder: TinyEncoder) -> None:
    centred, own = Centred(encoder=encoder), images()
    plain = encoder.eval()(own)
    assert torch.equal(centred.eval()(own).vector, plain.vector), "before training the means are zero"
    centred.train().after_step(step_of(centred, own))
    centred.eval()
    expected = F.normalize(plain.vector - centred.means[own.modality], dim=1)
    assert torch.equal(centred(own).vector, expected)
    assert torch.equal(centred.query_vectors(own)[:, 0], expected)
    assert torch.equal(centred.gallery_vectors(own), expected)
    assert torch.equal(centred(own).embedding, plain.embedding), "classifiers read the embedding as it was trained"
    assert not torch.allclose(centred(own).vector, plain.vector)


def test_a_batch_of_one_modality_moves_one_mean(encoder: TinyEncoder) -> None:
    centred = Centred(encoder=encoder)
    own = images()
    sketches = own[own.modality == SKETCH]
    centred.train().after_step(step_of(centred, sketches))
    assert centred.seen.tolist() == [1, 0]
    assert not centred.means[PHOTO].any()


class Long(TinyEncoder):
    """An encoder of Euclidean distances."""

    def gallery_vectors(self, batch: Batch) -> torch.Tensor:
        vectors: torch.Tensor = 2 * self(batch).vector
        return vectors


def test_training_sees_centred_vectors_too_where_asked_and_means_are_of_the_inner_ones(encoder: TinyEncoder) -> None:
    centred, own = Centred(encoder=encoder, training=True), images()
    encoder.eval()
    plain = encoder(own).vector
    centred.train().encoder.eval()
    first = centred(own)
    assert torch.equal(first.vector, plain), "before the first step the means are zero"
    for _ in range(2):
        centred.after_step(Step(centred(own), encoder=centred, batch=own))
    mean = torch.stack([plain[own.modality == modality].mean(0) for modality in (SKETCH, PHOTO)])
    assert torch.allclose(centred.means, mean, atol=1e-6)
    assert torch.equal(centred(own).vector, centred.eval()(own).vector)


def test_one_inside_another_takes_its_own_means(encoder: TinyEncoder) -> None:
    inner = Centred(encoder=encoder, training=True)
    outer, own = Centred(encoder=Projection(encoder=inner, dim=4)), images()
    outer.train()
    encoder.eval()
    for _ in range(2):
        step = Step(outer(own), encoder=outer, batch=own)
        for centred in (outer, inner):
            centred.after_step(step)
    assert outer.means.shape == (2, 4)
    assert inner.means.shape == (2, 8)
    assert torch.allclose(inner.means[SKETCH], encoder(own).vector[own.modality == SKETCH].mean(0), atol=1e-6)
    assert outer.eval()(own).vector.shape == (len(own), 4)


def test_a_projection_is_linear_in_the_vectors_and_drops_in_training_alone(encoder: TinyEncoder) -> None:
    head, own = Projection(encoder=encoder, dim=4, dropout=0.5).eval(), images()
    expected = encoder(own).vector @ head.layer.weight.T
    torch.testing.assert_close(head(own).embedding, expected)
    assert torch.equal(head.gallery_vectors(own), head(own).vector)
    assert torch.equal(head.query_vectors(own)[:, 0], head(own).vector)
    torch.testing.assert_close(head.distances(head(own)), torch.cdist(head(own).vector, head(own).vector), atol=1e-3, rtol=0)
    head.train().encoder.eval()
    assert not torch.equal(head(own).vector, head(own).vector)


def test_vectors_of_another_length_and_an_inner_place_are_refused(encoder: TinyEncoder) -> None:
    with pytest.raises(InputError, match="takes means from unit vectors, and those of Long have another length"):
        Centred(encoder=Long()).gallery_vectors(images())
    centred, own = Centred(encoder=encoder), images()
    with pytest.raises(InputError, match="give its phases no encoder inside it"):
        centred.after_step(Step(encoder(own), encoder=encoder, batch=own))


def small(**changes: Any) -> Pipeline:
    backbone = {"backbone": "resnet10t", "dim": 8, "pretrained": False, "timm_options": {"stem_type": "", "channels": [4, 4, 4, 4]}}
    encoder = {"name": "centred", "encoder": {"name": "backbone", **backbone}}
    phase = {"steps": 3, "optimizer": {"name": "sgd", "lr": 1e-3}}
    sampler = {"categories": 3, "per_modality": 2}
    return build(encoder=encoder, losses=["cross_entropy"], transform={"size": 32}, phases=[phase], sampler=sampler, **changes)


def test_means_are_saved_with_the_model_and_change_the_digest(dataset: Dataset, tmp_path: Path) -> None:
    data = split(dataset, ["class4", "class5"])
    pipeline = small()
    before = pipeline.encoder_digest()
    pipeline.fit(data, out=tmp_path / "run", progress=False, tensorboard=False)
    assert pipeline.encoder.get_buffer("seen").tolist() == [3, 3]
    assert pipeline.encoder_digest() != before
    queries, gallery = pipeline.encode(data, progress=False)
    pipeline.export(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors").encode(data, progress=False)
    assert torch.equal(again[0].vectors, queries.vectors)
    assert torch.equal(again[1].vectors, gallery.vectors)
    pipeline.index(data.test, progress=False).save(tmp_path / "index")
    hits = open_index(tmp_path / "index").search(data.test.sketches.read(0), k=1)
    assert hits[0].score == pytest.approx(float((queries.vectors[0] @ gallery.vectors.T).max()), abs=1e-5)
