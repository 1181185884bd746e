"""Experiments from their definition to stored results and the results page."""

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run_all
from benchmarks.experiments import definition, runs, store, tables
from sbirlib import load
from sbirlib.errors import InputError

TINY = """
title = "Tiny"
data = "synthetic"
options = { categories = 10, unseen = 2, instances = 4 }
against = "plain"
seeds = 2
note = "Of nothing."
evaluate_on = "validation"
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
variants = { "of larger images" = { "transform.size" = 48 } }

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
def here(here: Path) -> Path:
    (here / "definitions" / "tiny.toml").write_text(TINY)
    return here


def results(experiment: str) -> dict[tuple[str, int], dict[str, Any]]:
    """Stored runs by row and seed, in the order of the file."""
    return {(result["row"], result["seed"]): result for result in store.read(experiment)}


def over_classes(values: list[float], category: list[int]) -> float:
    """The mean over classes of each class's mean."""
    own = [[value for value, c in zip(values, category, strict=True) if c == each] for each in set(category)]
    return sum(sum(values) / len(values) for values in own) / len(own)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["run_all.py", *words])
    run_all.main()


def test_rows_are_run_once_and_stand_in_the_table(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "tiny", "--rows", "plain", "trained", "--device", "cpu")
    file = here / "results" / "tiny.jsonl"
    modified = file.stat().st_mtime_ns
    assert list(results("tiny")) == [("plain", 0), ("plain", 1), ("trained", 0), ("trained", 1)]
    result = results("tiny")["trained", 0]
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
    both = [results("tiny")["trained", seed]["metrics"]["Acc@1"] for seed in (0, 1)]
    assert f"| {sum(both) / 2:.3f} ± " in line
    assert "0.5000" in line
    assert "| row | Acc@1 | Acc@1 over classes | Acc@1, difference to plain |" in page
    queries = [results("tiny")["trained", seed]["queries"] for seed in (0, 1)]
    assert line.split("|")[3].strip() == tables.mean_and_deviation([over_classes(q["Acc@1"], q["category"]) for q in queries])
    assert re.search(r"^- Training helps \(table 0\): .*Acc@1 [+-]0\.\d{3} \(.* to .*\), 2 seeds", page, flags=re.MULTILINE)
    run(monkeypatch, "tiny", "--rows", "plain", "trained", "--device", "cpu")
    assert file.stat().st_mtime_ns == modified
    assert not (here / "runs" / "tiny").exists() or list((here / "runs" / "tiny").iterdir()) == []


def test_the_page_begins_with_the_best_row_of_each_experiment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "definitions" / "tiny.toml").write_text(
        TINY.replace('evaluate_on = "validation"', 'evaluate_on = "test"').replace('"Tiny"', '"Tiny, and more"')
    )
    run(monkeypatch, "tiny", "--rows", "plain", "trained", "--seeds", "1", "--device", "cpu")
    accuracy = {row: results("tiny")[row, 0]["metrics"]["Acc@1"] for row in ("plain", "trained")}
    best = max(accuracy, key=lambda row: accuracy[row])
    page = (here / "docs" / "results.md").read_text()
    row = f"| [Tiny, and more](#tiny-and-more) | {best} | Acc@1 {accuracy[best]:.3f} | {best} | "
    assert row in page  # as many queries of both classes


def test_a_run_without_values_of_queries_has_no_mean_over_classes() -> None:
    stored: list[dict[str, Any]] = [{"queries": {"Acc@1": [1.0, 1.0, 0.0], "category": [3, 3, 8]}}, {"queries": {}}, {}]
    assert tables.class_means(stored, "Acc@1") == [0.5]


def test_a_variant_evaluates_the_same_weights(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "definitions" / "tiny.toml").write_text(TINY.replace('"transform.size" = 48', '"transform.size" = 32'))
    run(monkeypatch, "tiny", "--rows", "trained", "--seeds", "1", "--device", "cpu")
    result = results("tiny")["trained", 0]
    assert result["also"]["of larger images"] == result["metrics"]


def test_trained_models_are_kept_on_request(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "tiny", "--rows", "trained", "--seeds", "1", "--device", "cpu", "--keep")
    assert load(here / "runs" / "tiny" / "trained-0" / "checkpoint.safetensors").recipe.phases[0].steps == 2


def test_the_training_time_of_a_resumed_run_is_unknown(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "tiny", "--rows", "trained", "--seeds", "1", "--device", "cpu", "--keep")
    assert results("tiny")["trained", 0]["seconds"]["training"] > 0
    (here / "results" / "tiny.jsonl").unlink()
    run(monkeypatch, "tiny", "--rows", "trained", "--seeds", "1", "--device", "cpu")
    assert results("tiny")["trained", 0]["seconds"]["training"] is None
    line = next(line for line in (here / "docs" / "results.md").read_text().splitlines() if line.startswith("| trained"))
    assert line.endswith("| 1 |  | 0.5000 |")


def test_a_row_starts_from_the_weights_of_another(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addition = '[[rows]]\nname = "further"\nrecipe = "mathm"\ntrain = false\nwarm_start = { encoder = "trained" }\n'
    (here / "definitions" / "tiny.toml").write_text(TINY + addition)
    run(monkeypatch, "tiny", "--rows", "trained", "further", "--seeds", "1", "--device", "cpu")
    trained, further = (results("tiny")[row, 0] for row in ("trained", "further"))
    assert further["metrics"] == trained["metrics"]
    shutil.rmtree(here / "runs")
    run(monkeypatch, "tiny", "--rows", "further", "--seeds", "2", "--device", "cpu")
    assert "the trained model of tiny/trained, seed 1, is not under" in results("tiny")["further", 1]["error"]


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


def test_an_ensemble_weights_the_models_of_other_rows(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "definitions" / "naming.toml").write_text(NAMING)
    run(monkeypatch, "naming", "--device", "cpu")
    one, both, alone = (results("naming")[row, 0] for row in ("one", "both", "one alone"))
    assert alone["metrics"] == one["metrics"]
    assert alone["ensemble"] == {"one": 1.0}
    assert alone["log"] == []
    assert sum(both["ensemble"].values()) == pytest.approx(1.0)
    assert set(both["ensemble"]) == {"one", "other"}


def test_a_trial_stores_nothing(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "tiny", "--rows", "trained", "--trial", "1", "--device", "cpu")
    assert re.search(r"tiny: trained: [\d,]+ parameters; images a second by phase: \d+\n", capsys.readouterr().out)
    assert not (here / "results").exists()
    assert not (here / "docs" / "results.md").exists()


def test_a_failed_run_stands_in_the_table_with_its_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "tiny", "--rows", "broken", "--seeds", "1", "--device", "cpu")
    assert "error" in results("tiny")["broken", 0]
    assert "broken: failed | " in (here / "docs" / "results.md").read_text()


def test_an_invalid_definition_is_refused(here: Path) -> None:
    with pytest.raises(InputError, match="no experiment 'tinny'; did you mean 'tiny'"):
        definition.read("tinny")
    (here / "definitions" / "odd.toml").write_text(TINY.replace("title", "titel"))
    with pytest.raises(InputError, match="odd has no key 'titel'; did you mean 'title'"):
        definition.read("odd")
    (here / "definitions" / "alone.toml").write_text(TINY.replace('against = "plain"', 'against = "plane"'))
    with pytest.raises(InputError, match="no row 'plane'; did you mean 'plain'"):
        definition.read("alone")


def test_rows_may_be_those_of_another_experiment(here: Path) -> None:
    other_definition = TINY.partition("[[rows]]")[0].replace("seeds = 2", 'seeds = 2\nrows_of = "tiny"')
    (here / "definitions" / "other.toml").write_text(other_definition)
    other, tiny = definition.read("other"), definition.read("tiny")
    assert (other.rows, other.claims) == (tiny.rows, tiny.claims)


def test_some_rows_of_another_experiment_come_with_the_claims_between_them(here: Path) -> None:
    head = TINY.partition("[[rows]]")[0]
    for only, claims in (('["trained", "plain"]', 1), ('["plain"]', 0)):
        (here / "definitions" / "some.toml").write_text(head.replace("seeds = 2", f'seeds = 2\nrows_of = "tiny"\nonly = {only}'))
        some = definition.read("some")
        assert [row.name for row in some.rows] == [row.name for row in definition.read("tiny").rows if row.name in only]
        assert len(some.claims) == claims
    faults = {
        'rows_of = "tiny"\nonly = ["plane"]': "some: only: tiny has no row 'plane'; did you mean 'plain'",
        'rows_of = "tiny"\nonly = "plain"': "some: only = 'plain': expected a list of names of rows",
        'only = ["plain"]': "some: only goes with rows_of",
    }
    for keys, message in faults.items():
        (here / "definitions" / "some.toml").write_text(head.replace("seeds = 2", f"seeds = 2\n{keys}"))
        with pytest.raises(InputError, match=message):
            definition.read("some")


def test_rows_start_from_rows_that_are_there_and_have_names_of_their_own(here: Path) -> None:
    row = '[[rows]]\nname = "plain"\nrecipe = "simple"\n'
    for change, message in (
        (f'{row}warm_start = {{ encoder = "gone" }}\n', "starts from 'gone', which is no row here"),
        (row * 2, "two rows have one name"),
    ):
        (here / "definitions" / "odd.toml").write_text(TINY.partition("[[rows]]")[0] + change)
        with pytest.raises(InputError, match=message):
            definition.read("odd")


@pytest.mark.parametrize("name", definition.names())
def test_every_committed_definition_can_be_read_and_its_rows_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBIRLIB_DATA", "somewhere")  # weights are read when they are first needed
    experiment = definition.read(name)
    assert len({row.name for row in experiment.rows}) == len(experiment.rows)
    for row in experiment.rows:
        if experiment.probe:
            assert callable(import_module(f"benchmarks.experiments.probes.{experiment.probe}").measure)
        else:
            runs.pipeline_of(experiment, row, seed=0)


def test_the_program_runs_by_its_path(here: Path) -> None:
    script = Path(run_all.__file__)
    process = subprocess.run([sys.executable, str(script), "tinny"], cwd=here, capture_output=True, text=True, check=False)
    assert "run_all: there is no experiment 'tinny'" in process.stderr


def test_a_claim_is_held_refuted_or_left_open(here: Path) -> None:
    """Runs that differ in the values of their queries only."""
    category = [0, 0, 1, 1, 2, 2, 3, 3]

    def runs_with(low: list[float], high: list[float]) -> dict[str, dict[int, dict[str, object]]]:
        return {
            row: {seed: {"queries": {"category": category, "Acc@1": values}} for seed in (0, 1)}
            for row, values in (("plain", low), ("trained", high))
        }

    experiment = definition.read("tiny")
    low, high = [0.1, 0.2] * 4, [0.5, 0.6] * 4

    def text(low: list[float], high: list[float]) -> str:
        return tables.claim_text(experiment, runs_with(low, high), experiment.claims[0])

    assert "**holds** here: Acc@1 +0.400 (+0.400 to +0.400), 2 seeds" in text(low, high)
    assert "**does not hold** here: Acc@1 -0.400" in text(high, low)
    assert "not decided: Acc@1 +0.000" in text([0.1, 0.2] * 4, [0.2, 0.1] * 4)
    assert tables.claim_text(experiment, {"plain": {}, "trained": {}}, experiment.claims[0]) == "not run yet."


def test_a_result_names_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBIRLIB_DATA", "/some/where")
    settings = {"encoder": {"weights": "$SBIRLIB_DATA/weights/a.safetensors"}, "size": 96}
    there = definition.expand(settings)
    assert there["encoder"]["weights"] == "/some/where/weights/a.safetensors"
    assert definition.portable({**there, "list": ["/some/where/x"]}) == {**settings, "list": ["$SBIRLIB_DATA/x"]}
