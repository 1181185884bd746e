"""Presets, the list of experiments with the time that they will take, and the smallest preset in shortened form."""

import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.benchmarks.test_run_all import TINY

from benchmarks import run_all
from benchmarks.experiments import definition, forecast, store
from sbirlib import list_parts


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["run_all.py", *words])
    run_all.main()


def test_the_list_tells_the_time_of_missing_runs(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "definitions" / "tiny.toml").write_text(TINY)
    run(monkeypatch, "--list", "--device", "cpu")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny"))
    assert line.split()[:5] == ["tiny", "3", "6", "6", "unknown"]
    for row, seconds in (("plain", 30.0), ("trained", 600.0), ("trained", None)):
        seed = int(seconds is None)
        result = {"experiment": "tiny", "row": row, "seed": seed, "metrics": {}, "device": "cpu"}
        store.write(result | {"seconds": {"training": seconds, "measuring": 30.0}})
    tiny = definition.read("tiny")
    rows = {row.name: row for row in tiny.rows}
    assert forecast.expected(tiny, [(1, rows["plain"]), (1, rows["trained"])], "cpu") == 60 + 630
    assert forecast.expected(tiny, [(0, rows["broken"])], "cpu") == (60 + 630) / 2  # as the experiment's others
    assert forecast.expected(tiny, [(1, rows["plain"])], "cuda") is None
    run(monkeypatch, "--list", "--device", "cpu")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny"))
    assert line.split()[:6] == ["tiny", "3", "6", "3", "12", "min"]  # 60 s, and twice 345


def test_a_preset_has_the_open_experiments() -> None:
    assert run_all.preset("smoke") == ["smoke"]
    assert {"world-parts", "world-traits"} <= set(run_all.preset("worlds")) < set(run_all.preset("cpu"))
    names = run_all.preset("cpu")
    assert "mathm-folds" in names
    assert not {"smoke", "mathm-qdphoto", "paper-shoe"} & set(names)


def test_the_preset_of_the_papers_size_reads_published_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBIRLIB_DATA", str(tmp_path))
    names = run_all.preset("paper")
    assert names == ["paper-chair", "paper-quickdraw", "paper-shoe", "paper-sketchy", "paper-tuberlin"]
    for name in names:
        experiment = definition.read(name)
        kind, _, folder = experiment.data.partition(":")
        assert (folder, kind in list_parts("dataset")) == (f"$SBIRLIB_DATA/{kind}", True)
        assert {"sbirlib", "sbirlib-instance"} & {row.name for row in experiment.rows}
    for folder, images in {"trainB": 20, "trainA": 20, "testB": 4, "testA": 4}.items():
        (tmp_path / "shoe_v2" / folder).mkdir(parents=True)
        for i in range(images):
            name = f"{folder[:-1]}{i}" + "_1" * folder.endswith("A")
            Image.new("L", (8, 8), 255).save(tmp_path / "shoe_v2" / folder / f"{name}.png")
    data = definition.data(definition.read("paper-shoe"))
    assert (len(data.test.sketches), len(data.test.photos)) == (4, 4)


def test_the_smoke_preset_in_shortened_form(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ("proxy anchor", "MATHM", "ACNet", "generative, decoder", "VTD")
    run(monkeypatch, "--preset", "smoke", "--trial", "1", "--device", "cpu", "--rows", *rows)
    out = capsys.readouterr().out
    assert [line.split(": ")[1] for line in out.splitlines() if line.startswith("smoke: ")] == list(rows)
