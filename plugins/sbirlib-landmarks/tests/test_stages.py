"""Landmarks and filters on the map of an earlier stage."""

from typing import Any

import pytest
import torch
from torch import nn

from sbirlib import part
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch
from sbirlib_landmarks.landmark import Landmark


def batch(size: int = 64) -> Batch:
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)).round()
    labels = torch.arange(4)
    return Batch(images, torch.tensor([SKETCH, PHOTO] * 2), labels, labels)


def encoder_of(name: str, **options: Any) -> Landmark:
    if name == "cse":
        pytest.importorskip("sbirlib_mathm")
    torch.manual_seed(0)
    inner = {"name": name, "backbone": "test_resnet", "pretrained": False, "dim": 8}
    encoder: Landmark = part("encoder", "landmark", encoder=inner, **{"landmarks": 5, "filters": 3, "flip": False, **options})
    return encoder.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["backbone", "cse"])
@pytest.mark.parametrize(("stage", "channels", "cells"), [(4, 32, 16), (8, 48, 8), (16, 192, 4)])
def test_embedding_offsets_and_filters_read_the_stages_map(name: str, stage: int, channels: int, cells: int) -> None:
    encoder = encoder_of(name, stage=stage)
    embedding = encoder.get_submodule("encoder.embedding")
    assert encoder.offsets is not None
    assert encoder.filters is not None
    assert isinstance(embedding, nn.Linear)
    assert embedding.in_features == encoder.offsets.in_channels == encoder.filters.in_channels == channels
    features = encoder(batch())
    assert features.images["responses"].shape == (4, 3, cells, cells)
    assert features.embedding.shape == (4, encoder.dim) == (4, 8)


@torch.no_grad()
@pytest.mark.parametrize("name", ["backbone", "cse"])
def test_without_landmarks_it_is_the_encoder_of_that_stage(name: str) -> None:
    encoder, images = encoder_of(name, stage=8, landmarks=0, filters=0), batch()
    images = Batch(images.images, torch.zeros_like(images.modality), images.category, images.instance)
    torch.testing.assert_close(encoder(images).embedding, encoder.encoder(images).embedding)


def test_cse_conditions_the_stages_map() -> None:
    encoder, images = encoder_of("cse", stage=8, landmarks=0, edges="given"), batch()
    photos = Batch(images.images, torch.full_like(images.modality, PHOTO), images.category, images.instance)
    sketches = Batch(images.images, torch.full_like(images.modality, SKETCH), images.category, images.instance)
    for parameter in encoder.get_submodule("encoder.conditions").parameters():
        torch.nn.init.normal_(parameter)
    assert not torch.allclose(encoder(photos).embedding, encoder(sketches).embedding)


def test_the_gradient_reaches_the_stage_and_no_later_layer() -> None:
    encoder = encoder_of("backbone", stage=8).train()
    features = encoder(batch())
    (features.embedding.sum() + features.rows["class_logits"].square().sum()).backward()
    for layer, reached in {"layer1": True, "layer2": True, "layer3": False, "layer4": False}.items():
        gradients = [parameter.grad for parameter in encoder.get_submodule(f"encoder.backbone.{layer}").parameters()]
        assert all((gradient is not None) == reached for gradient in gradients)


@torch.no_grad()
def test_the_width_of_the_embedding_may_be_the_stages() -> None:
    inner = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 0}
    encoder: Landmark = part("encoder", "landmark", encoder=inner, landmarks=5, filters=0, stage=8)
    assert encoder.dim == encoder.vector_dim == 48
    assert encoder.eval()(batch()).vector.shape == (4, 48)


def test_no_more_landmarks_than_the_stages_map_has_cells() -> None:
    assert encoder_of("backbone", stage=4, landmarks=256)(batch()).images["points"].shape == (4, 256, 2)
    with pytest.raises(InputError, match="257 landmarks are more than the 16 x 16 cells"):
        encoder_of("backbone", stage=4, landmarks=257)(batch())
