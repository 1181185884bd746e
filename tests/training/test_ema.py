"""Moving average of weights: against the recurrence, exact resume, validation with it, and two settings that exclude each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_validation import Scripted
from torch import Tensor

from sbirlib import InputError, build, load, split
from sbirlib.data.dataset import Dataset
from sbirlib.pipeline import Pipeline
from sbirlib.testing.world import separable
from sbirlib.training import checkpoint
from sbirlib.training.steps import StepEvent

STEPS = 6


@pytest.fixture(scope="module")
def images() -> Dataset:
    return split(separable(categories=8, instances=2), "seed:0")


def pipeline(**changes: Any) -> Pipeline:
    return build(**{
        "encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8}, "losses": ["cross_entropy"],
        "phases": [{"steps": STEPS, "optimizer": {"lr": 1e-2}}], "ema": 0.3,
        "sampler": {"categories": 2, "per_modality": 2}, "transform": {"size": 32}, **changes,
    })  # fmt: skip


def state(trained: Pipeline) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trained.encoder.state_dict().items()}


def test_the_trained_model_is_the_average(images: Dataset) -> None:
    plain, history = pipeline(ema=None), list[dict[str, Tensor]]()

    def note(_: StepEvent) -> None:
        history.append(state(plain))

    plain.fit(images, progress=False, on_step=note)
    averaged = state(pipeline().fit(images, progress=False))
    for name, value in averaged.items():
        expected = history[0][name].double()
        for n, weights in enumerate(history):
            share = 1 - min(0.3, n / (n + 9))
            expected = expected + share * (weights[name].double() - expected)
        if not value.is_floating_point():
            expected = history[-1][name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6, msg=name)
    assert any(not torch.equal(value, history[-1][name]) for name, value in averaged.items())


@pytest.mark.parametrize("validate", [None, {"every": 2}])
def test_a_training_that_was_interrupted_ends_with_the_same_average(images: Dataset, tmp_path: Path, validate: Any) -> None:
    evaluators = {"evaluators": {"scripted": Scripted([0.1, 0.3, 0.5, 0.2, 0.4])}} if validate else {}
    whole = state(pipeline(validate=validate, **evaluators).fit(images, progress=False, out=tmp_path / "whole"))

    def stop(event: StepEvent) -> None:
        if event.done == 4:
            raise KeyboardInterrupt

    evaluators = {"evaluators": {"scripted": Scripted([0.1, 0.3, 0.5])}} if validate else {}
    stopped = pipeline(validate=validate, **evaluators)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(images, progress=False, out=tmp_path / "run", save_every=1, on_step=stop)
    evaluators = {"evaluators": {"scripted": Scripted([0.5, 0.2])}} if validate else {}
    resumed = pipeline(validate=validate, **evaluators).fit(images, progress=False, out=tmp_path / "run", resume=True, save_every=1)
    assert all(torch.equal(value, whole[name]) for name, value in state(resumed).items())
    tensors, _ = checkpoint.read(tmp_path / "run" / "checkpoint.safetensors")
    assert any(name.startswith("ema.") for name in tensors)


def test_a_run_that_has_ended_gives_its_average_again(images: Dataset, tmp_path: Path) -> None:
    trained = pipeline().fit(images, progress=False, out=tmp_path / "run")
    trained.save(tmp_path / "model.safetensors")
    again = pipeline().fit(images, progress=False, out=tmp_path / "run", resume=True)
    assert all(torch.equal(value, state(trained)[name]) for name, value in state(load(tmp_path / "model.safetensors")).items())
    assert all(torch.equal(value, state(trained)[name]) for name, value in state(again).items())


def test_divided_weights_are_refused(images: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"averages whole weights \(ema\)"):
        pipeline().fit(images, progress=False, out=tmp_path, shard=True)


@pytest.mark.parametrize("decay", [-0.1, 1.0, "much"])
def test_a_decay_outside_its_range_is_refused(decay: Any) -> None:
    with pytest.raises(InputError, match="ema"):
        pipeline(ema=decay)
