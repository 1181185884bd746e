"""Compiled backbones: where it pays, where it does not, where it breaks; evaluation runs them as they are."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sbirlib import build
from sbirlib.data.dataset import Dataset
from sbirlib.pipeline import Pipeline
from sbirlib.training import compilation


def pipeline(backbone: nn.Module | str = "test_resnet", **changes: Any) -> Pipeline:
    options = {} if isinstance(backbone, nn.Module) else {"pretrained": False}
    settings: dict[str, Any] = {
        "compile": True,
        "losses": ["cross_entropy"],
        "transform": {"size": 32},
        "sampler": {"categories": 3, "per_modality": 2},
        "phases": [{"steps": 3, "optimizer": {"lr": 1e-3}}],
    }
    return build(encoder={"name": "backbone", "backbone": backbone, "dim": 8, **options}, **{**settings, **changes})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Stand-in for the compiler, which notes the mode of each compiled call."""
    modes: list[bool] = []

    def compiled(module: nn.Module) -> None:
        def call(*arguments: Any) -> Any:
            modes.append(module.training)
            return module._call_impl(*arguments)

        module._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", compiled)
    return modes


def seconds(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the trials take so long."""
    times = iter(values)

    def timed(module: nn.Module, inputs: Tensor, count: int) -> float:
        module(inputs).sum().backward()
        return next(times)

    monkeypatch.setattr(compilation, "_seconds", timed)


def test_a_compiled_backbone_trains_and_evaluates_as_it_is(
    calls: list[bool], dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sbirlib")
    seconds(monkeypatch, 2.0, 9.0, 1.0)
    trained = pipeline().fit(dataset, progress=False)
    assert len(calls) == 2 + 3, "two trials, three steps"
    assert all(calls)
    assert "compile: backbone is 2.00 times as fast, after" in caplog.text
    plain = pipeline(compile=False).fit(dataset, progress=False)
    assert all(torch.equal(value, plain.model.tensors()[name]) for name, value in trained.model.tensors().items()), "trials change nothing"
    trained.evaluate(dataset)
    assert len(calls) == 5


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        ({"name": "cse", "dim": 8}, "Cse acts on layers inside its backbone, by hooks that a compiled one passes over"),
        (
            {"name": "landmark", "landmarks": 1, "encoder": {"name": "backbone", "dim": 8}},
            "Landmark takes the map of its backbone, which is not compiled",
        ),
    ],
)
def test_encoders_inside_which_it_would_not_act_are_named(
    calls: list[bool], dataset: Dataset, caplog: pytest.LogCaptureFixture, encoder: dict[str, Any], reason: str
) -> None:
    """With hooks a compiled backbone would be another one: it keeps those that it was compiled with."""
    small = {"backbone": "test_resnet", "pretrained": False}
    made = {**encoder, "encoder": {**encoder["encoder"], **small}} if "encoder" in encoder else {**encoder, **small}
    settings = {"losses": ["cross_entropy"], "transform": {"size": 64}, "sampler": {"categories": 3, "per_modality": 2}}
    build(encoder=made, compile=True, phases=[{"steps": 2}], **settings).fit(dataset, progress=False)
    assert calls == []
    assert f"compile is left out: {reason}" in caplog.text


def test_where_it_does_not_pay_it_is_left_out(
    calls: list[bool], dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sbirlib")
    seconds(monkeypatch, 1.0, 9.0, 1.0)
    pipeline().fit(dataset, progress=False)
    assert len(calls) == 2
    assert "1.00 times as fast, after 0 s: it stays as it was" in caplog.text


def test_where_it_breaks_the_log_says_so_and_training_goes_on(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(module: nn.Module) -> None:
        def call(*_: Any) -> Any:
            raise RuntimeError("no C++ compiler\nwas found")

        module._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", broken)
    trained = pipeline().fit(dataset, progress=False)
    assert "backbone cannot be compiled, and stays as it was (no C++ compiler was found)" in caplog.text
    assert trained.evaluate(dataset)["mAP@all"] > 0


@pytest.mark.slow
def test_the_compiler_itself(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SETUPTOOLS_USE_DISTUTILS", "stdlib")  # setuptools refuses its own where another test has imported this one
    caplog.set_level(logging.INFO, logger="sbirlib")
    pipeline("resnet10t").fit(dataset, progress=False)
    assert "times as fast, after" in caplog.text
