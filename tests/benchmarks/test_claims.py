"""Experiments over folds, probes, a limit of time, and the claims page."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks import run_all
from benchmarks.experiments import claims, definition, store
from benchmarks.experiments.verdicts import least, over_folds, runs_of, verdict
from sbirlib.errors import InputError
from sbirlib.retrieval.paired import Difference

FOLDS = """
title = "Folds"
paper = "mathm"
world = "imbalance"
data = "synthetic"
options = { categories = 12, unseen = 2, instances = 2 }
against = "plain"
folds = 3
seeds = 3
probe = "levels"

[settings]
level = 0.0

[[rows]]
name = "plain"
paper = { "somewhere mAP" = 0.4 }

[[rows]]
name = "method"
settings = { level = 0.1 }
paper = { "somewhere mAP" = 0.5 }

[[rows]]
name = "oracle"
settings = { level = 0.3 }

[[rows]]
name = "wavering"
settings = { level = 0.0, wave = 0.2 }
paper = { "somewhere mAP" = 0.5 }

[[claims]]
says = "The method helps"
where = "table 1"
better = "method"
worse = "plain"
oracle = "oracle"

[[claims]]
says = "Wavering helps"
where = "table 2"
better = "wavering"
worse = "plain"

[[claims]]
says = "An absent row helps"
where = "table 3"
better = "absent"
worse = "plain"

[[rows]]
name = "absent"
"""


def measure(data: Any, *, part: str, seed: int, level: float, wave: float = 0.0) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Values of the test sketches: a level, and a wave whose sign is another in another fold."""
    category = np.asarray(data.test.sketches.category)
    assert data.split_name == f"fold:{seed % 3}:of=3+validation"
    return {"mAP@all": np.full(len(category), 0.5 + level + wave * (seed - 1)), "Prec@100": np.ones(len(category))}, category


@pytest.fixture
def folds(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = ModuleType("benchmarks.experiments.probes.levels")
    module.__dict__["measure"] = measure
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (here / "definitions" / "folds.toml").write_text(FOLDS)
    return here


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["run_all.py", *words])
    run_all.main()


def test_each_run_has_another_fold_unseen_and_the_claims_page_says_what_holds(folds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "folds", "--rows", "plain", "method", "oracle", "wavering")
    stored = store.read("folds")
    assert [(r["row"], r["seed"]) for r in stored if r["row"] == "plain"] == [("plain", seed) for seed in range(3)]
    assert len({r["data"]["digest"] for r in stored}) == 3
    page = (folds / "docs" / "claims.md").read_text()
    lines = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}
    assert "| mAP@all +0.100 | +0.100 to +0.100 | 0.000 | 3 | 33% | **holds** |" in lines["The method helps"]
    assert "folds, the world of imbalance" in lines["The method helps"]
    counted = re.search(r"not decided: (\d+) runs for 0\.100, as published", lines["Wavering helps"])
    assert counted is not None
    assert int(counted[1]) > 3
    assert lines["An absent row helps"].endswith("| 0 |  | not run yet |")
    assert "| MATHM (Huang et al. 2022) | 1 | 0 | 0 | 1 | 1 | 0 | 0 | 0 | 0 | 0 |" in page
    method = (folds / "docs" / "methods" / "mathm.md").read_text()
    assert method.startswith(f"Before.\n\n{claims.BEGIN}\n| claim |")
    assert method.endswith(f"{claims.END}\n\nAfter.\n")
    assert "**holds**" in method
    assert "No experiment has run yet." in (folds / "docs" / "methods" / "vtd.md").read_text()
    assert "level 0.0" in (folds / "docs" / "results.md").read_text()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.004, 0.009, "no gain that matters"), (-0.004, 0.011, "not decided"), (-0.011, 0.004, "no gain that matters"),
     (0.001, 0.005, "holds"), (-0.5, -0.001, "does not hold")],
)  # fmt: skip
def test_an_interval_below_the_least_effect_that_matters_decides(low: float, high: float, expected: str) -> None:
    difference = Difference((low + high) / 2, low, high, 0.01, 5)
    assert verdict(difference, 0.01) == expected
    assert verdict(difference) == expected.replace("no gain that matters", "not decided")


def test_in_a_world_a_third_of_the_oracles_gain_matters(folds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "folds", "--rows", "plain", "method", "oracle", "wavering")
    experiment = definition.read("folds")
    runs, claim = runs_of(experiment), next(claim for claim in experiment.claims if claim.oracle)
    assert least(experiment, runs, claim) == pytest.approx(0.1)  # of 0.3
    assert least(experiment, runs, replace(claim, oracle="")) == 0
    assert least(replace(experiment, matters=0.02), runs, claim) == 0.02


def test_a_methods_page_without_a_place_for_its_claims_is_named(folds: Path) -> None:
    (folds / "docs" / "methods" / "vtd.md").write_text("Nothing.\n")
    with pytest.raises(InputError, match=r"vtd\.md has no place for its claims: write the lines"):
        claims.render()


def test_the_runs_stop_when_the_time_is_up(folds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def endless(data: Any, **_: Any) -> Any:
        while True:
            sum(range(1000))

    monkeypatch.setattr(sys.modules["benchmarks.experiments.probes.levels"], "measure", endless)
    run(monkeypatch, "folds", "--hours", str(1 / 3600))
    assert "hours are up" in capsys.readouterr().out
    assert store.read("folds") == []  # a run that was stopped has no result, and no error


def test_the_interval_over_folds_is_students_of_the_means_of_folds() -> None:
    d = over_folds([(0, 0.01), (1, 0.03), (2, 0.02), (0, 0.03)])
    assert d is not None
    means = np.array([0.02, 0.03, 0.02])
    half = 4.302653 * means.std(ddof=1) / np.sqrt(3)  # Student's t, two degrees of freedom
    assert np.allclose([d.mean, d.low, d.high], [means.mean(), means.mean() - half, means.mean() + half])
    assert d.detectable > half
    assert d.seeds == 4
    assert over_folds([(0, 0.1), (0, 0.2)]) is None
    assert over_folds([]) is None


def test_the_interval_over_folds_covers_the_true_difference() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        d = over_folds([(fold, 0.02 + random.normal(0, 0.03)) for fold in range(5)])
        assert d is not None
        covered += d.low <= 0.02 <= d.high
    assert 0.92 < covered / 400 < 0.98
