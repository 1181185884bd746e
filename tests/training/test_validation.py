"""Validation: the best model, patience, resumption, and what says nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_run import same, small_pipeline, state
from torch import Tensor

from sbirlib import load, split
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded, Encoder, Evaluator
from sbirlib.pipeline import Pipeline
from sbirlib.training import checkpoint
from sbirlib.training.steps import StepEvent

Fresh = Callable[[], Encoder]
VALUES = [0.1, 0.3, 0.2, 0.5, 0.4, 0.5, 0.3, 0.2, 0.1]  # of validations, every step from 0


class Scripted(Evaluator):
    """A metric that reads its values from a script, one a call."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = iter(values)

    def evaluate(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        value = next(self.values)
        return {"score": value, "class_score": 1 - value}


def parted(dataset: Dataset) -> Dataset:
    return split(dataset, "seed:0")


def pipeline(encoder: Encoder, values: list[float], **validate: Any) -> Pipeline:
    settings = {"evaluators": {"scripted": Scripted(values)}, "validate": {"every": 1, **validate}}
    return small_pipeline(encoder, 8, sampler={"categories": 2, "per_modality": 2}, **settings)


def test_the_best_weights_are_those_of_the_pipeline(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    weights: dict[int, dict[str, Tensor]] = {}
    trained = pipeline(fresh(), VALUES)
    trained.fit(parted(dataset), out=tmp_path, progress=False, on_step=lambda e: weights.update({e.done: state(trained)}))
    assert trained.chosen is not None
    assert (trained.chosen.step, trained.chosen.metric, trained.chosen.value) == (3, "score", 0.5)  # of equals the first
    assert same(state(trained), weights[3])
    best, about = checkpoint.read_model(tmp_path / "best.safetensors")
    assert same(best, weights[3])
    assert about.chosen == trained.chosen
    assert same(checkpoint.of_model(checkpoint.read(tmp_path / "checkpoint.safetensors")[0]), weights[8])
    trained.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors", encoder=fresh(), **{"evaluators.scripted": Scripted([])}).chosen == trained.chosen


def test_a_mean_over_classes_may_decide(fresh: Fresh, dataset: Dataset) -> None:
    trained = pipeline(fresh(), VALUES, metric="score", average="class").fit(parted(dataset), progress=False)
    assert trained.chosen is not None
    assert (trained.chosen.step, trained.chosen.metric) == (0, "class_score")


def test_patience_ends_the_run(fresh: Fresh, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sbirlib")
    events: list[StepEvent] = []
    trained = pipeline(fresh(), VALUES, patience=3).fit(parted(dataset), out=tmp_path, progress=False, on_step=events.append)
    assert events[-1].done == 6
    assert trained.chosen is not None
    assert trained.chosen.step == 3
    assert "stopped after step 6 of 8: the patience of validation has ended" in caplog.text
    again = pipeline(fresh(), []).recipe.tables()["validate"]
    assert again == {"every": 1, "average": "query"}
    resumed = pipeline(fresh(), [], patience=3).fit(parted(dataset), out=tmp_path, resume=True, progress=False)
    assert "no step is left: the patience of validation had ended after step 6 of 8" in caplog.text
    assert same(state(resumed), state(trained)), "a run that has ended stays as it is, with its best weights"


def test_patience_may_grow(fresh: Fresh, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline(fresh(), VALUES, patience=1).fit(parted(dataset), out=tmp_path, progress=False)
    resumed = pipeline(fresh(), VALUES[3:], patience=9).fit(parted(dataset), out=tmp_path, resume=True, progress=False)
    assert "planned otherwise (another patience)" in caplog.text
    assert resumed.chosen is not None
    assert (resumed.chosen.step, resumed.chosen.value) == (3, 0.5)


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_resumed_run_chooses_as_an_undisturbed_one(fresh: Fresh, dataset: Dataset, tmp_path: Path, at: int) -> None:
    whole = pipeline(fresh(), VALUES).fit(parted(dataset), progress=False)

    class Stop(Exception):
        pass

    def stop(event: StepEvent) -> None:
        if event.done == at + 1:
            raise Stop

    with pytest.raises(Stop):
        pipeline(fresh(), VALUES).fit(parted(dataset), out=tmp_path, save_every=1, progress=False, on_step=stop)
    resumed = pipeline(fresh(), VALUES[at + 1 :]).fit(parted(dataset), out=tmp_path, resume=True, progress=False)
    assert resumed.chosen == whole.chosen
    assert same(state(resumed), state(whole))


def test_a_kill_between_the_checkpoint_and_the_best_file_loses_nothing(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    class Kill(BaseException):
        pass

    def kill(event: StepEvent) -> None:
        if event.done == 4:
            raise Kill

    with pytest.raises(Kill):
        pipeline(fresh(), VALUES).fit(parted(dataset), out=tmp_path, save_every=1, progress=False, on_step=kill)
    (tmp_path / "best.safetensors").unlink()  # step 3, the best, was saved as a checkpoint, and not yet as the best
    with pytest.raises(Kill):  # again, two steps later
        pipeline(fresh(), VALUES[4:]).fit(
            parted(dataset), out=tmp_path, save_every=1, resume=True, progress=False, on_step=lambda e: kill(replace(e, done=e.done - 2))
        )
    resumed = pipeline(fresh(), VALUES[6:]).fit(parted(dataset), out=tmp_path, resume=True, progress=False)
    assert resumed.chosen is not None
    assert resumed.chosen.step == 3
    assert same(state(resumed), state(pipeline(fresh(), VALUES).fit(parted(dataset), progress=False)))


def test_best_weights_that_are_gone_are_named(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    pipeline(fresh(), VALUES).fit(parted(dataset), out=tmp_path, progress=False)
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(InputError, match="names step 3 as the best, and .* does not hold it"):
        pipeline(fresh(), []).fit(parted(dataset), out=tmp_path, resume=True, progress=False)


def test_a_metric_that_is_not_there_is_named_before_the_first_step(fresh: Fresh, dataset: Dataset) -> None:
    steps: list[StepEvent] = []
    with pytest.raises(InputError, match=r"validate\.metric: the recipe's evaluators give no 'scor'; did you mean 'score'"):
        pipeline(fresh(), VALUES, metric="scor").fit(parted(dataset), progress=False, on_step=steps.append)
    assert steps == []


def test_a_split_without_validation_is_refused(encoder: Encoder, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="has no validation images: take a split with some"):
        pipeline(encoder, VALUES).plan(dataset)


def test_validation_that_says_nothing_is_warned_of(
    fresh: Fresh, dataset: Dataset, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """One class only: every ranking is perfect."""
    pipeline_ = small_pipeline(fresh(), 2, sampler={"categories": 2, "per_modality": 2}, validate={"every": 1})
    pipeline_.fit(parted(dataset), out=tmp_path, progress=False)
    assert "validation chooses no step: category-level evaluation says nothing here: all" in caplog.text
    assert "or 'seed:0'" not in caplog.text, "the split that the run may have already"
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {line["validation"]["mAP@all"] for line in lines if "validation" in line} == {1.0}


def test_values_that_are_not_finite_are_never_the_best(fresh: Fresh, dataset: Dataset) -> None:
    trained = pipeline(fresh(), [float("nan"), 0.1, float("inf"), 0.2, *[0.0] * 5]).fit(parted(dataset), progress=False)
    assert trained.chosen is not None
    assert trained.chosen.step == 3


def test_steps_alone_make_a_run_longer(fresh: Fresh, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    phases = [{"steps": 3, "optimizer": {"lr": 1e-3}}, {"steps": 2, "optimizer": {"lr": 1e-3}}]
    torch.manual_seed(0)
    small_pipeline(fresh(), phases=phases).fit(dataset, out=tmp_path, progress=False)
    longer = [phases[0], {**phases[1], "steps": 4}]
    events: list[StepEvent] = []
    resumed = small_pipeline(fresh(), phases=longer).fit(dataset, out=tmp_path, resume=True, progress=False, on_step=events.append)
    assert [event.done for event in events] == [6, 7]
    assert "phases.1.steps 2 -> 4" in caplog.text
    assert same(state(resumed), state(small_pipeline(fresh(), phases=longer).fit(dataset, progress=False))), "the schedule is constant"
    for change in ([{**phases[0], "steps": 4}, longer[1]], longer[:1], [phases[0], {**phases[1], "steps": 1}]):
        with pytest.raises(InputError, match=r"made by another recipe \(they differ in: phases\)|no place in this recipe"):
            small_pipeline(fresh(), phases=change).fit(dataset, out=tmp_path, resume=True, progress=False)
