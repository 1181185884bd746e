"""Distillation: against a literal transcription, with the encoder that provides a teacher, and refusals."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TinyEncoder
from torch import Tensor
from torch.nn import functional as F

from sbirlib import InputError, build, load, split
from sbirlib.data.dataset import Dataset
from sbirlib.encoders.taught import Taught
from sbirlib.interfaces import PHOTO, Batch, Features, Step
from sbirlib.losses.distillation import Distillation, directions, relations
from sbirlib.spec import part
from sbirlib.testing.world import batch

TINY = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8}


def literal(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for i in range(len(student)):
        others = [j for j in range(len(student)) if j != i]
        sums = [sum(math.exp(float(logits[i, j])) for j in others) for logits in (student, teacher)]
        for j in others:
            q, p = math.exp(float(student[i, j])) / sums[0], math.exp(float(teacher[i, j])) / sums[1]
            total += p * math.log(p / q)
    return total / len(student)


def taught(dim: int = 8) -> Taught:
    torch.manual_seed(0)
    return Taught(encoder=TinyEncoder(dim=8), teacher=TinyEncoder(dim=dim))


def step(encoder: Taught, images: Batch) -> Step:
    return Step(encoder(images), encoder=encoder, batch=images)


@pytest.mark.parametrize("count", [3, 7])
def test_relations_are_those_of_the_paper(count: int) -> None:
    torch.manual_seed(count)
    student, teacher = torch.randn(2, count, count, dtype=torch.float64)
    assert float(relations(student, teacher)) == pytest.approx(literal(student, teacher), rel=1e-9)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: relations(x, teacher), (student,))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_rows_without_a_choice_give_zero_with_a_gradient(count: int) -> None:
    value = relations(torch.zeros(count, count, requires_grad=True), torch.zeros(count, count))
    assert (value.item(), value.requires_grad) == (0, True)
    empty = directions(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4))
    assert (empty.item(), empty.requires_grad) == (0, True)


@pytest.mark.parametrize("rows", ["photos", "both"])
def test_the_loss_reads_distances_and_the_teacher(rows: Any) -> None:
    encoder, images = taught(dim=5).eval(), batch(size=32)
    keep = images.modality == PHOTO if rows == "photos" else torch.ones(len(images), dtype=torch.bool)
    features: Features = encoder(images)
    vectors, theirs = features.vector[keep].double(), features.rows["teacher"][keep].double()
    expected = literal(vectors @ vectors.T / 0.2, theirs @ theirs.T / 0.2)
    assert float(Distillation(temperature=0.2, rows=rows)(step(encoder, images))) == pytest.approx(expected, rel=1e-4)


def test_features_are_one_less_their_cosine() -> None:
    encoder, images = taught().eval(), batch(size=32)
    features: Features = encoder(images)
    photos = images.modality == PHOTO
    expected = 1 - F.cosine_similarity(features.vector[photos], features.rows["teacher"][photos]).mean()
    assert float(Distillation(of="features")(step(encoder, images))) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(InputError, match="these have 8, the teacher's 5"):
        Distillation(of="features")(step(taught(dim=5), images))


def test_an_encoder_that_is_its_own_teacher_has_nothing_to_learn() -> None:
    torch.manual_seed(0)
    tiny = TinyEncoder()
    encoder, images = Taught(encoder=tiny, teacher=copy.deepcopy(tiny)).eval(), batch(size=32)
    for of in ("relations", "features"):
        assert abs(float(Distillation(of=of)(step(encoder, images)))) < 1e-5


def test_a_teacher_that_is_the_encoder_is_refused() -> None:
    tiny = TinyEncoder()
    with pytest.raises(InputError, match="give it a copy"):
        Taught(encoder=tiny, teacher=tiny)
    assert all(parameter.requires_grad for parameter in tiny.parameters())


def test_the_teacher_neither_trains_nor_is_saved(dataset: Dataset, tmp_path: Path) -> None:
    data = split(dataset, "seed:0")
    pipeline = build(
        encoder={"name": "taught", "encoder": TINY, "teacher": {**TINY, "dim": 4}}, losses=["cross_entropy", "distillation"],
        phases=[{"steps": 2, "optimizer": {"lr": 1e-2}}], sampler={"categories": 2, "per_modality": 2}, transform={"size": 32},
    )  # fmt: skip
    assert isinstance(pipeline.encoder, Taught)
    before = copy.deepcopy(pipeline.encoder.teacher.state_dict())
    pipeline.fit(data, progress=False)
    after = pipeline.encoder.teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    pipeline.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert not any("teacher" in name for name in again.encoder.state_dict())
    gallery = pipeline.encode(data)[1]
    assert torch.allclose(again.encode(data)[1].vectors, gallery.vectors)


def test_the_teacher_moves_with_the_encoder() -> None:
    encoder = part("encoder", "taught", encoder=TINY, teacher=TINY).double()
    assert {value.dtype for value in encoder.teacher.parameters()} == {torch.float64}


def test_a_cache_of_features_is_refused_where_the_teacher_needs_images(dataset: Dataset) -> None:
    pipeline = build(
        encoder={"name": "taught", "encoder": TINY, "teacher": TINY}, losses=["cross_entropy", "distillation"],
        phases=[{"steps": 2, "cache": {"module": "encoder.encoder.backbone.layer2"},
                 "parameters": [{"of": "encoder.encoder.backbone", "frozen": True}]}],
        sampler={"categories": 2, "per_modality": 2}, transform={"size": 32},
    )  # fmt: skip
    with pytest.raises(InputError, match="cache"):
        pipeline.fit(split(dataset, "seed:0"), progress=False)
