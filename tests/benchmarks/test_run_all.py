"""The run store, from an experiment to its table."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

import experiment
import run_all
import store
import tables
from sbirlib import load
from sbirlib.errors import InputError

TINY = """
title = "Tiny"
data = "synthetic"
options = { categories = 10, unseen = 2, instances = 4 }
against = "plain"
seeds = 2
note = "Of nothing."
part = "validation"
evaluator = { name = "instance", metrics = ["Acc@1"], gallery = "category" }
also."whole gallery" = { name = "instance", metrics = ["Acc@2"] }

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
asked = { "of larger images" = { "transform.size" = 48 } }

[[claims]]
says = "Training helps"
where = "table 0"
better = "trained"
worse = "plain"

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
    assert result["data"]["part"] == "validation"
    assert list(result["also"]["whole gallery"]) == ["Acc@2"]
    assert list(result["also"]["of larger images"]) == ["Acc@1"]
    assert len(result["queries"]["Acc@1"]) == len(result["queries"]["category"]) == result["data"]["queries"]
    assert result["commit"]
    page = (here / "docs" / "results.md").read_text()
    assert "## Tiny" in page
    assert "Of nothing." in page
    assert "| Acc@2, whole gallery | Acc@1, of larger images |" in page
    line = next(line for line in page.splitlines() if line.startswith("| trained"))
    both = [json.loads((here / "results" / "tiny" / f"trained-{seed}.json").read_text())["metrics"]["Acc@1"] for seed in (0, 1)]
    assert f"| {sum(both) / 2:.3f} ± " in line
    assert "0.5000" in line
    assert re.search(r"^- Training helps \(table 0\): .*Acc@1 [+-]0\.\d{3} \(.* to .*\), 2 seeds", page, flags=re.MULTILINE)
    run(monkeypatch, "tiny", "--rows", "plain", "trained", "--device", "cpu")
    assert {p.name: p.stat().st_mtime_ns for p in (here / "results" / "tiny").iterdir()} == files
    assert not (here / "runs" / "tiny").exists() or list((here / "runs" / "tiny").iterdir()) == []


def test_the_page_begins_with_who_is_ahead(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "experiments" / "tiny.toml").write_text(
        TINY.replace('part = "validation"', 'part = "test"').replace('"Tiny"', '"Tiny, and more"')
    )
    run(monkeypatch, "tiny", "--rows", "plain", "trained", "--seeds", "1", "--device", "cpu")
    found = {row: json.loads((here / "results" / "tiny" / f"{row}-0.json").read_text())["metrics"]["Acc@1"] for row in ("plain", "trained")}
    ahead = max(found, key=lambda row: found[row])
    page = (here / "docs" / "results.md").read_text()
    assert f"| [Tiny, and more](#tiny-and-more) | {ahead} | Acc@1 {found[ahead]:.3f} |" in page


def test_another_way_to_ask_is_of_the_same_weights(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "experiments" / "tiny.toml").write_text(TINY.replace('"transform.size" = 48', '"transform.size" = 32'))
    run(monkeypatch, "tiny", "--rows", "trained", "--seeds", "1", "--device", "cpu")
    result = json.loads((here / "results" / "tiny" / "trained-0.json").read_text())
    assert result["also"]["of larger images"] == result["metrics"]


def test_trained_models_are_kept_if_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "tiny", "--rows", "trained", "--seeds", "1", "--device", "cpu", "--keep")
    assert load(here / "runs" / "tiny" / "trained-0" / "checkpoint.safetensors").recipe.phases[0].steps == 2


def test_how_long_a_run_took_that_went_on_is_not_known(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here / "results" / "tiny" / "trained-0.json"
    run(monkeypatch, "tiny", "--rows", "trained", "--seeds", "1", "--device", "cpu", "--keep")
    assert json.loads(path.read_text())["seconds"]["training"] > 0
    path.unlink()
    run(monkeypatch, "tiny", "--rows", "trained", "--seeds", "1", "--device", "cpu")
    assert json.loads(path.read_text())["seconds"]["training"] is None
    line = next(line for line in (here / "docs" / "results.md").read_text().splitlines() if line.startswith("| trained"))
    assert line.endswith("| 1 |  | 0.5000 |")


def test_a_row_begins_with_what_another_learnt(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    further = '[[rows]]\nname = "further"\nrecipe = "mathm"\ntrain = false\nbegin = { encoder = "trained" }\n'
    (here / "experiments" / "tiny.toml").write_text(TINY + further)
    run(monkeypatch, "tiny", "--rows", "trained", "further", "--seeds", "1", "--device", "cpu")
    trained, begun = (json.loads((here / "results" / "tiny" / f"{row}-0.json").read_text()) for row in ("trained", "further"))
    assert begun["metrics"] == trained["metrics"]
    shutil.rmtree(here / "runs")
    run(monkeypatch, "tiny", "--rows", "further", "--seeds", "2", "--device", "cpu")
    assert "the trained model of tiny/trained, seed 1, is not under" in (here / "results" / "tiny" / "further-1.json").read_text()


NAMING = """
title = "Naming"
data = "synthetic"
split = "classification"
options = { categories = 6, unseen = 1, instances = 8 }
against = "one"
seeds = 1
note = "Of little."
evaluator = { name = "classification" }

[settings]
encoder = { encoder = { name = "backbone", backbone = "test_resnet", pretrained = false, dim = 8 } }
"transform.size" = 32
"phases.0.steps" = 2

[[rows]]
name = "one"
recipe = "landmarks-whole"

[[rows]]
name = "other"
recipe = "landmarks-whole"
settings = { "phases.0.steps" = 4 }

[[rows]]
name = "both"
recipe = "landmarks-whole"
ensemble = ["one", "other"]

[[rows]]
name = "one alone"
recipe = "landmarks-whole"
ensemble = ["one"]
"""


def test_a_row_weighs_what_others_learnt(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "experiments" / "naming.toml").write_text(NAMING)
    run(monkeypatch, "naming", "--device", "cpu")
    one, both, alone = (json.loads((here / "results" / "naming" / f"{row}-0.json").read_text()) for row in ("one", "both", "one-alone"))
    assert alone["metrics"] == one["metrics"]
    assert alone["ensemble"] == {"one": 1.0}
    assert alone["log"] == []
    assert sum(both["ensemble"].values()) == pytest.approx(1.0)
    assert set(both["ensemble"]) == {"one", "other"}


def test_a_trial_keeps_nothing(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "tiny", "--rows", "trained", "--trial", "1", "--device", "cpu")
    assert re.search(r"tiny: trained: [\d,]+ parameters; images a second, phase by phase: \d+\n", capsys.readouterr().out)
    assert sorted(p.name for p in here.rglob("*") if p.is_file()) == ["tiny.toml"]


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
    with pytest.raises(InputError, match="no row 'plane'; did you mean 'plain'"):
        experiment.read("alone")


def test_rows_may_be_those_of_another_experiment(here: Path) -> None:
    head = TINY.partition("[[rows]]")[0].replace("seeds = 2", 'seeds = 2\nrows_of = "tiny"')
    (here / "experiments" / "other.toml").write_text(head)
    other, tiny = experiment.read("other"), experiment.read("tiny")
    assert (other.rows, other.claims) == (tiny.rows, tiny.claims)


@pytest.mark.parametrize("name", experiment.names())
def test_every_experiment_of_ours_can_be_read_and_its_rows_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBIRLIB_DATA", "somewhere")  # weights are read when they are first needed
    found = experiment.read(name)
    assert len({row.name for row in found.rows}) == len(found.rows)
    for row in found.rows:
        run_all.built(found, row, seed=0)


def test_a_claim_is_held_refuted_or_left_open(here: Path) -> None:
    """By runs that are told apart by nothing but the values of their queries."""
    category = [0, 0, 1, 1, 2, 2, 3, 3]

    def runs(low: list[float], high: list[float]) -> dict[str, dict[int, dict[str, object]]]:
        return {
            row: {seed: {"queries": {"category": category, "mAP@all": values}} for seed in (0, 1)}
            for row, values in (("plain", low), ("trained", high))
        }

    claim = experiment.read("tiny").claims[0]
    low, high = [0.1, 0.2] * 4, [0.5, 0.6] * 4
    assert "**holds** here: mAP@all +0.400 (+0.400 to +0.400), 2 seeds" in tables.verdict(runs(low, high), claim, "mAP@all")
    assert "**does not hold** here: mAP@all -0.400" in tables.verdict(runs(high, low), claim, "mAP@all")
    assert "not decided: mAP@all +0.000" in tables.verdict(runs([0.1, 0.2] * 4, [0.2, 0.1] * 4), claim, "mAP@all")
    assert tables.verdict({"plain": {}, "trained": {}}, claim, "mAP@all") == "not run yet."


def test_a_result_names_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBIRLIB_DATA", "/some/where")
    settings = {"encoder": {"weights": "$SBIRLIB_DATA/weights/a.safetensors"}, "size": 96}
    there = experiment.expanded(settings)
    assert there["encoder"]["weights"] == "/some/where/weights/a.safetensors"
    assert experiment.portable({**there, "list": ["/some/where/x"]}) == {**settings, "list": ["$SBIRLIB_DATA/x"]}
