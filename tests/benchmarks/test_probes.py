"""Probes: landmark pooling on cached maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.experiments.probes import landmark_maps
from benchmarks.experiments.probes.landmark_maps import Head, Maps, measure, once, reduced
from sbirlib.data.split import split
from sbirlib.data.synthetic import synthetic

SETTINGS: dict[str, Any] = {
    "encoder": {"backbone": "resnet10t", "pretrained": False},
    "size": 64,
    "channels": 8,
    "landmarks": 3,
    "epochs": 2,
    "lr": 1e-2,
}


@pytest.mark.parametrize(
    "options", [{"pooling": "whole"}, {"pooling": "random"}, {"projection": "ceil"}, {"offsets": True, "branch": True}], ids=str
)
def test_every_row_names_the_images_of_the_split(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmark_maps, "CACHE", tmp_path)
    data = split(synthetic(categories=5, unseen=1, instances=10, sketches=1, size=64).sketches, "classification")
    values, category = measure(data, part="test", seed=0, **SETTINGS, **options)
    assert set(values["accuracy"].tolist()) <= {0.0, 1.0}
    assert len(values["accuracy"]) == len(data.test)
    assert sorted(set(category.tolist())) == [0, 1, 2, 3, 4]
    kept = next(tmp_path.glob("*.safetensors"))
    modified = kept.stat().st_mtime_ns
    again, _ = measure(data, part="test", seed=0, **SETTINGS, **options)
    assert np.array_equal(again["accuracy"], values["accuracy"])
    assert kept.stat().st_mtime_ns == modified


def test_features_that_are_pooled_once_are_those_of_every_step() -> None:
    torch.manual_seed(0)
    maps = Maps(torch.randn(7, 6, 4, 4), torch.randint(0, 64, (7, 5, 2)).float(), 64)
    for pooling in ("whole", "landmarks"):
        head = Head(6, 3, 5, pooling=pooling, projection="centre", offsets=False, branch=False)
        logits, _ = head(maps)
        head.pooling, single = "whole", once(head, maps)
        assert torch.allclose(head(single)[0], logits, atol=1e-6)


def test_components_hold_most_of_the_variance_with_unit_variance_on_the_mean() -> None:
    torch.manual_seed(0)
    features = torch.randn(50, 6, 4, 4) * torch.tensor([5.0, 4.0, 0.1, 0.1, 0.1, 0.1])[:, None, None] + 3
    maps = reduced(Maps(features, torch.zeros(50, 1, 2), 32), torch.arange(50), 2)
    variance = maps.features.transpose(0, 1).flatten(1).var(1)
    assert float(variance.mean()) == pytest.approx(1, rel=0.05)
