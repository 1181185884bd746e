"""Pooling in the cells of a grid: against adaptive pooling, its place in a pipeline, and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.conftest import TinyEncoder
from torch import Tensor
from torch.nn import functional as F

from sbirlib import InputError
from sbirlib.encoders.backbone import Backbone
from sbirlib.encoders.grid_pool import GridPool, averages
from sbirlib.interfaces import PHOTO, SKETCH, Batch


def batch(count: int = 4, size: int = 96) -> Batch:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count)
    return Batch(images, torch.tensor([SKETCH, PHOTO] * count)[:count], labels, labels)


def encoder(inner: int = 0, **options: Any) -> GridPool:
    torch.manual_seed(0)
    return GridPool(encoder=Backbone(backbone="resnet10t", dim=inner, pretrained=False), **options).eval()


@pytest.mark.parametrize(("size", "cells"), [(6, 3), (7, 4), (10, 4), (4, 4), (3, 5), (1, 2), (9, 1)])
def test_averages_are_those_of_adaptive_pooling(size: int, cells: int) -> None:
    values = torch.rand(2, 3, size, size + 1, dtype=torch.float64)
    rows, columns = averages(size, cells).double(), averages(size + 1, cells).double()
    pooled = torch.einsum("ih,bchw,jw->bcij", rows, values, columns)
    torch.testing.assert_close(pooled, F.adaptive_avg_pool2d(values, cells), atol=1e-7, rtol=0)


@pytest.mark.parametrize("stage", [16, 8, None])
def test_the_embedding_is_the_cells_of_the_map(stage: int | None) -> None:
    pool, own = encoder(stage=stage, cells=2), batch()
    assert isinstance(pool.encoder, Backbone)
    parts = F.adaptive_avg_pool2d(pool.encoder.feature_map(own.images), 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(pool(own).embedding, parts.flatten(1))
    assert torch.equal(pool.gallery_vectors(own), pool(own).vector)
    assert pool.query_vectors(own).shape == (4, 1, pool.dim)


def test_the_backbones_own_embedding_is_of_each_part() -> None:
    pool, own = encoder(inner=5, stage=None, cells=2), batch()
    assert isinstance(pool.encoder, Backbone)
    parts = F.adaptive_avg_pool2d(pool.encoder.feature_map(own.images), 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(pool(own).embedding, pool.encoder.embedding(parts).flatten(1))
    assert pool.dim == 4 * 5


def test_one_cell_is_the_global_mean() -> None:
    plain = encoder(stage=None, cells=1)
    assert isinstance(plain.encoder, Backbone)
    torch.testing.assert_close(plain(batch()).embedding, plain.encoder(batch()).embedding)
    assert encoder(stage=16, cells=3).dim == 9 * 256


def test_where_a_thing_is_changes_the_vector_as_it_does_not_change_a_mean() -> None:
    left = torch.ones(1, 3, 128, 128)
    left[:, :, 40:80, 0:32] = 0
    right = left.flip(-1)

    def apart(cells: int) -> Tensor:
        a, b = (encoder(stage=16, cells=cells)(Batch(image, *(torch.zeros(1, dtype=torch.int64),) * 3)).vector for image in (left, right))
        distance: Tensor = (a - b).norm()
        return distance

    assert apart(4) > 2 * apart(1)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"stage": 64}, "has no stage of stride 64: its stages have strides"),
        ({"cells": 0}, "cells = 0"),
        ({"power": 0.5}, "power = 0.5"),
        ({"encoder": TinyEncoder()}, "pools the map of a backbone, and TinyEncoder gives none"),
    ],
)
def test_wrong_encoders_and_values_are_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        GridPool(**{"encoder": Backbone(backbone="resnet10t", dim=0, pretrained=False)} | options)


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_the_generalised_mean_is_that_of_the_paper(power: float) -> None:
    pool, own = encoder(stage=None, cells=2, power=power), batch()
    assert isinstance(pool.encoder, Backbone)
    features = pool.encoder.feature_map(own.images).double().clamp(min=1e-6)
    expected = F.adaptive_avg_pool2d(features**power, 2) ** (1 / power)
    torch.testing.assert_close(pool(own).embedding, expected.permute(0, 2, 3, 1).flatten(1).float(), rtol=1e-4, atol=1e-5)


def test_the_power_trains() -> None:
    pool = encoder(stage=None, cells=1, power=3.0)
    pool(batch()).embedding.sum().backward()
    assert pool.power is not None
    assert pool.power.grad is not None
    assert bool(pool.power.grad.isfinite())
    assert float(pool.power.grad) != 0
