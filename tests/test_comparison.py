"""Comparison of runs: settings, logs, curves, and paired differences on the same queries."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sbirlib import build, load, split
from sbirlib.comparison import ABSENT, compare, differing_settings, flat, read_run, read_runs, results
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.testing.world import separable
from sbirlib.visual.curves import compared_curves
from sbirlib.visual.figures import save_figure

SMALL: dict[str, Any] = {
    "encoder": {"backbone": "resnet10t", "pretrained": False, "dim": 8},
    "transform": {"size": 32},
    "sampler": {"categories": 2, "per_modality": 2},
    "phases": [{"steps": 2, "parameters": [], "schedule": {"warmup": 0}}],
}


@pytest.fixture(scope="module")
def parts() -> Dataset:
    data = separable()
    return split(data, list(data.categories[-2:]))


@pytest.fixture(scope="module")
def root(parts: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `first`, `longer` (three steps, another rate) and `unlogged`, a model alone."""
    place = tmp_path_factory.mktemp("runs")
    changes: dict[str, dict[str, Any]] = {"first": {}, "longer": {"phases.0.steps": 3, "phases.0.optimizer.lr": 0.01}}
    for name, settings in changes.items():
        pipeline = build("mathm", **SMALL, **settings)
        pipeline.fit(parts, out=place / name, progress=False, tensorboard=False, log_every=1, device="cpu", workers=0)
        pipeline.export(place / name / "model.safetensors")
    (place / "unlogged").mkdir()
    shutil.copy(place / "first" / "model.safetensors", place / "unlogged")
    return place


def test_settings_that_differ_are_named_by_their_paths(root: Path) -> None:
    runs = read_runs([root / "first", root / "longer"])
    assert [run.name for run in runs] == ["first", "longer"]
    assert differing_settings(runs) == {
        "phases.0.steps": [2, 3],
        "phases.0.optimizer.lr": [runs[0].settings["phases.0.optimizer.lr"], 0.01],
    }
    assert runs[0].settings["data.digest"] == runs[1].settings["data.digest"]
    assert differing_settings(read_runs([root / "first", root / "unlogged"])) == {}, "a model alone names its data"


def test_the_last_values_of_the_logs_stand_side_by_side(root: Path) -> None:
    first, longer, unlogged = (read_run(root / name) for name in ("first", "longer", "unlogged"))
    table = results([first, longer, unlogged])
    assert table["steps"] == [2.0, 3.0, 0.0]
    records = [json.loads(line) for line in (root / "longer" / "log.jsonl").read_text().splitlines()]
    losses = [record["losses"] for record in records if "losses" in record]
    assert table["loss cross_entropy"][1:] == [losses[-1]["cross_entropy"], ABSENT]
    validation = [record["validation"] for record in records if "validation" in record]
    assert table["validation mAP@all"][1] == validation[-1]["mAP@all"]
    assert table["validation class_mAP@all"][1] == validation[-1]["class_mAP@all"]


def test_models_are_compared_on_the_same_queries(root: Path, parts: Dataset) -> None:
    runs = read_runs([root / "first", root / "longer", root / "unlogged"])
    result = compare(runs, parts, device="cpu", progress=False)
    assert set(result.metrics) == {"mAP@all", "class_mAP@all", "Prec@100", "class_Prec@100"}
    assert result.metrics["mAP@all"]["first"] == result.metrics["mAP@all"]["unlogged"]
    lines = {(line.metric, line.run): line for line in result.differences}
    assert len(lines) == 4 * 2
    for metric in result.metrics:
        same = lines[metric, "unlogged"].difference
        assert (same.mean, same.low, same.high, same.detectable) == (0, 0, 0, 0)
        other = lines[metric, "longer"].difference
        assert other.mean == pytest.approx(result.metrics[metric]["longer"] - result.metrics[metric]["first"])
        assert other.low <= other.mean <= other.high
        assert lines[metric, "longer"].cells()[2] == f"{other.mean:+.4f}"
    assert list(compare(runs[:2], parts, metrics=["Prec@3"], progress=False).metrics) == ["Prec@3", "class_Prec@3"]


def test_a_test_split_that_was_trained_on_is_warned_of(root: Path, parts: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    runs = read_runs([root / "first", root / "longer"])
    with caplog.at_level(logging.WARNING, logger="sbirlib"):
        compare(runs, parts, metrics=["Prec@1"], progress=False)
    assert caplog.messages == []
    other = split(separable(), list(parts.categories[:2]))
    with caplog.at_level(logging.WARNING, logger="sbirlib"):
        compare(runs, other, metrics=["Prec@1"], progress=False)
    assert [message.partition(" ")[0] for message in caplog.messages] == ["first", "longer"]
    assert "may have been in its training" in caplog.messages[0]


def test_curves_of_all_runs_are_in_one_picture(root: Path, tmp_path: Path) -> None:
    runs = read_runs([root / "first", root / "longer", root / "unlogged"])
    canvas = compared_curves({run.name: run.records for run in runs})
    panels = {axis.get_title(): axis for axis in canvas.axes}
    assert {"cross_entropy", "mAP@all, validation", "Prec@100, validation"} <= set(panels)
    assert [len(line.get_xdata()) for line in panels["cross_entropy"].lines] == [2, 3]
    assert [line.get_linestyle() for line in panels["mAP@all, validation"].lines] == ["-", "--", "-", "--"]
    assert [text.get_text() for text in panels["mAP@all, validation"].get_legend().get_texts()] == ["first", "longer"]
    save_figure(canvas, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 400
    with pytest.raises(InputError, match="the logs of these runs are empty"):
        compared_curves({"unlogged": []})


def test_what_is_no_run_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds none of model\.safetensors, best\.safetensors, checkpoint\.safetensors: expected a run"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="two runs or more, got 1"):
        read_runs([root / "first"])
    with pytest.raises(InputError, match="is named twice"):
        read_runs([root / "first", root / "longer", root / "longer" / ".." / "first"])
    (tmp_path / "model.safetensors").write_bytes(b"no model")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_run(tmp_path)


def test_runs_in_folders_of_one_name_are_named_by_their_paths(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "first", tmp_path / "first")
    assert [run.name for run in read_runs([root / "first", tmp_path / "first", root / "longer"])] == [
        str(root / "first"),
        str(tmp_path / "first"),
        "longer",
    ]


def test_a_run_that_has_not_ended_is_read_from_its_checkpoint(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "stopped"
    shutil.copytree(root / "first", place)
    (place / "model.safetensors").unlink()
    (place / "best.safetensors").unlink(missing_ok=True)
    run = read_run(place)
    assert run.model.name == "checkpoint.safetensors"
    assert run.settings["phases.0.steps"] == 2


def test_each_evaluator_leaves_out_its_own_queries(root: Path, parts: Dataset) -> None:
    """Sketches of one category without instances: category-level metrics count them, instance-level ones do not."""
    both = replace(parts, instance=np.where((parts.category == parts.category.max()) & (parts.modality == 0), -1, parts.instance))
    runs = []
    for name in ("first", "longer"):
        place = root / f"{name}-both"
        pipeline = load(root / name / "model.safetensors")
        other = build(pipeline.recipe.tables(), evaluators={"category": {"metrics": ["mAP@all"]}, "instance": {"metrics": ["Acc@5"]}})
        other.encoder.load_state_dict(pipeline.encoder.state_dict())
        place.mkdir()
        other.export(place / "model.safetensors")
        runs.append(read_run(place))
    result = compare(runs, both, progress=False)
    assert list(result.metrics) == ["mAP@all", "class_mAP@all", "Acc@5", "class_Acc@5"]
    for run in runs:
        plain = load(run.model).evaluate(both, progress=False)
        assert plain["queries_left_out"] == 6
        assert {metric: of[run.name] for metric, of in result.metrics.items()} == pytest.approx({m: plain[m] for m in result.metrics})


def test_nested_tables_are_flattened_to_paths() -> None:
    table = {"a": {"b": 1, "c": {}}, "phases": [{"x": [1, 2]}, {"x": None}], "empty": []}
    assert flat(table) == {"a.b": 1, "a.c": {}, "phases.0.x": [1, 2], "phases.1.x": None, "empty": []}


def test_a_metric_that_needs_a_classifier_is_left_out_for_models_without(root: Path, parts: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipeline = build("mathm", **SMALL, evaluators=["classification"])
    pipeline.make_losses(parts.test.categories, 0)
    (tmp_path / "named").mkdir()
    pipeline.save(tmp_path / "named" / "model.safetensors")
    runs = read_runs([tmp_path / "named", root / "first"])
    with pytest.raises(InputError, match="no evaluator of the first run gives values query by query for all runs"):
        compare(runs, parts, progress=False)
    assert len(compare(runs, parts, metrics=["mAP@all"], progress=False).differences) == 2
