"""The run store, from an experiment to its table."""

import json
import sys
from pathlib import Path

import pytest

import experiment
import run_all
import store
import tables
from sbirlib.errors import InputError

TINY = """
title = "Tiny"
data = "synthetic"
options = { categories = 10, unseen = 2, instances = 4 }
against = "plain"
seeds = 2
note = "Of nothing."

[settings]
encoder = { backbone = "test_resnet", pretrained = false, dim = 8 }
"transform.size" = 32
"sampler.categories" = 2
"sampler.per_modality" = 2
"phases.0.steps" = 2
"phases.0.parameters" = []

[[rows]]
name = "plain"
recipe = "mathm-ce"
train = false

[[rows]]
name = "trained"
recipe = "mathm"
paper = { "somewhere mAP@all" = 0.5 }

[[rows]]
name = "broken"
recipe = "mathm"
settings = { "phases.0.optimizer.lr" = 1e30 }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(experiment, "EXPERIMENTS", tmp_path / "experiments")
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run_all, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "docs" / "results.md")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "experiments" / "tiny.toml").write_text(TINY)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["run_all.py", *words])
    run_all.main()


def test_rows_are_run_once_and_stand_in_the_table(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "tiny", "--rows", "plain", "trained", "--device", "cpu")
    files = {p.name: p.stat().st_mtime_ns for p in (here / "results" / "tiny").iterdir()}
    assert set(files) == {"plain-0.json", "plain-1.json", "trained-0.json", "trained-1.json"}
    result = json.loads((here / "results" / "tiny" / "trained-0.json").read_text())
    assert result["recipe"]["phases"][0]["steps"] == 2
    assert len(result["queries"]["mAP@all"]) == len(result["queries"]["category"]) == result["data"]["queries"]
    assert result["commit"]
    page = (here / "docs" / "results.md").read_text()
    assert "## Tiny" in page
    assert "Of nothing." in page
    line = next(line for line in page.splitlines() if line.startswith("| trained"))
    both = [json.loads((here / "results" / "tiny" / f"trained-{seed}.json").read_text())["metrics"]["mAP@all"] for seed in (0, 1)]
    assert f"| {sum(both) / 2:.3f} ± " in line
    assert "0.5000" in line
    run(monkeypatch, "tiny", "--rows", "plain", "trained", "--device", "cpu")
    assert {p.name: p.stat().st_mtime_ns for p in (here / "results" / "tiny").iterdir()} == files
    assert not (here / "runs" / "tiny").exists() or list((here / "runs" / "tiny").iterdir()) == []


def test_a_failed_run_stands_in_the_table_with_its_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "tiny", "--rows", "broken", "--seeds", "1", "--device", "cpu")
    assert "error" in json.loads((here / "results" / "tiny" / "broken-0.json").read_text())
    assert "broken: failed | " in (here / "docs" / "results.md").read_text()


def test_what_cannot_be_an_experiment_is_refused(here: Path) -> None:
    with pytest.raises(InputError, match="no experiment 'tinny'; did you mean 'tiny'"):
        experiment.read("tinny")
    (here / "experiments" / "odd.toml").write_text(TINY.replace("title", "titel"))
    with pytest.raises(InputError, match="odd has no key 'titel'; did you mean 'title'"):
        experiment.read("odd")
    (here / "experiments" / "alone.toml").write_text(TINY.replace('against = "plain"', 'against = "plane"'))
    with pytest.raises(InputError, match="against names the row 'plane'; did you mean 'plain'"):
        experiment.read("alone")


def test_every_experiment_of_ours_can_be_read() -> None:
    for name in experiment.names():
        found = experiment.read(name)
        assert len({row.name for row in found.rows}) == len(found.rows)
