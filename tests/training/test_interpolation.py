"""Interpolation with pretrained weights: the share that validation chooses, and recipes that cannot have one."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.training.test_validation import Scripted

from sbirlib import InputError, build, load, split
from sbirlib.data.dataset import SPLITS, Dataset
from sbirlib.pipeline import Pipeline
from sbirlib.spec import part
from sbirlib.testing.world import separable

SHARES = [0.8, 0.0, 0.4]


@pytest.fixture(scope="module")
def images() -> Dataset:
    return split(separable(categories=20, instances=2), "seed:0")


def pipeline(values: list[float] | None = None, **changes: Any) -> Pipeline:
    encoder = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8}
    evaluators = {} if values is None else {"evaluators": {"scripted": Scripted(values)}}
    interpolate = changes.pop("interpolate", {"shares": SHARES})
    return build(**{
        "encoder": encoder, "losses": ["cross_entropy"], "phases": [{"steps": 3, "optimizer": {"lr": 1e-2}}], "interpolate": interpolate,
        "sampler": {"categories": 2, "per_modality": 2}, "transform": {"size": 32}, **evaluators, **changes,
    })  # fmt: skip


def backbone(trained: Pipeline) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.encoder.get_submodule("backbone").state_dict().items()}


def test_the_share_with_the_largest_metric_is_taken(images: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pretrained = backbone(pipeline())
    plain = backbone(pipeline(interpolate=None).fit(images, progress=False))
    last = 0.9  # of the validation at the end of training, which chooses nothing here
    with caplog.at_level(logging.INFO):
        trained = pipeline([last, 0.2, 0.5, 0.3]).fit(images, progress=False, out=tmp_path / "run")
    for name, value in backbone(trained).items():
        expected = torch.lerp(plain[name], pretrained[name], 0.4) if value.is_floating_point() else plain[name]
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7, msg=name)
    assert trained.chosen is not None
    assert (trained.chosen.step, trained.chosen.share, trained.chosen.value) == (3, 0.4, 0.5)
    assert (
        "encoder.backbone has share 0.4 of its pretrained weights (score on validation: 0: 0.2000, 0.4: 0.5000, 0.8: 0.3000)" in caplog.text
    )
    again = pipeline([0.2, 0.5, 0.3]).fit(images, progress=False, out=tmp_path / "run", resume=True)
    assert all(torch.equal(value, backbone(trained)[name]) for name, value in backbone(again).items())


def test_pretrained_weights_are_those_of_the_file_however_deep_the_module_is(images: Dataset, tmp_path: Path) -> None:
    weights = part("encoder", {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8}).backbone.state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    inner = {"name": "backbone", "backbone": "test_resnet", "weights": str(tmp_path / "w.safetensors"), "dim": 8}
    settings = {"module": "encoder.encoder.backbone", "shares": [1.0]}
    trained = pipeline(encoder={"name": "centred", "encoder": inner}, interpolate=settings).fit(images, progress=False)
    own = trained.encoder.get_submodule("encoder.backbone").state_dict()
    assert all(torch.equal(own[name], value) for name, value in weights.items() if value.is_floating_point())


def test_a_saved_model_holds_its_share(images: Dataset, tmp_path: Path) -> None:
    trained = pipeline(interpolate={"shares": [0.5]}).fit(images, progress=False)
    trained.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.chosen is not None
    assert again.chosen.share == 0.5
    assert all(torch.equal(value, backbone(trained)[name]) for name, value in backbone(again).items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interpolate": {"module": "encoder.backbon"}}, r"interpolate.module: there is no module 'encoder.backbon'; did you mean"),
        ({"interpolate": {"shares": [1.5]}}, r"interpolate.shares"),
        ({"interpolate": {"shares": []}}, r"interpolate.shares"),
        ({"interpolate": "much"}, "interpolate = 'much'"),
        ({"encoder.backbone": torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())}, "the encoder holds an object"),
    ],
)
def test_a_wrong_interpolation_is_named(changes: dict[str, Any], message: str, images: Dataset) -> None:
    with pytest.raises(InputError, match=message):
        pipeline(**changes).fit(images, progress=False)


def test_a_share_needs_validation_images(images: Dataset) -> None:
    assert images.split is not None
    trained_too = replace(images, split=np.where(images.split == SPLITS.index("validation"), SPLITS.index("train"), images.split))
    with pytest.raises(InputError, match="has no validation images"):
        pipeline().fit(trained_too, progress=False)


def test_a_module_that_did_not_train_is_named(images: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    phase = {"steps": 2, "parameters": [{"of": "encoder.backbone", "frozen": True}]}
    with caplog.at_level(logging.WARNING):
        trained = pipeline(phases=[phase]).fit(images, progress=False)
    assert "encoder.backbone has the weights that it began with, so interpolation changes nothing" in caplog.text
    assert trained.chosen is not None
    assert trained.chosen.share == 0
