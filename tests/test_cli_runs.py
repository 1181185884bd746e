"""Commands on runs: compare, tune-lr and profile, as a user types them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.terminal import run

from sbirlib import build
from sbirlib.data.named import dataset

SETTINGS = [
    "encoder.backbone=resnet10t",
    "encoder.pretrained=false",
    "encoder.dim=8",
    "transform.size=32",
    "sampler.categories=2",
    "sampler.per_modality=2",
]
DATA = ["--data", "my-data", "--split", "cat,dog"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with drawings of six classes, in my-data."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cat", "dog", "moon", "owl", "sun", "tree")):
        for i in range(4):
            for modality, ground in (("sketch", "white"), ("photo", "grey")):
                place = tmp_path / "my-data" / modality / name
                place.mkdir(parents=True, exist_ok=True)
                image = Image.new("RGB", (32, 32), ground)
                image.paste("black", (4 * number, i, 4 * number + 6, 30))
                image.save(place / f"{i}.png")
    return tmp_path


def trained(out: Path, **settings: Any) -> None:
    pairs = {key: value for key, _, value in (text.partition("=") for text in SETTINGS)}
    changes = {"encoder": {"backbone": pairs["encoder.backbone"], "pretrained": False, "dim": 8}, "transform": {"size": 32}}
    small = {
        **changes,
        "sampler": {"categories": 2, "per_modality": 2},
        "phases": [{"steps": 2, "parameters": [], "schedule": {"warmup": 0}}],
    }
    pipeline = build("mathm", **small, **settings)
    data = dataset("my-data", "cat,dog")
    pipeline.fit(data, out=out, progress=False, tensorboard=False, log_every=1, device="cpu", workers=0).export(out / "model.safetensors")


def test_runs_are_compared(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trained(here / "one")
    trained(here / "two", **{"phases.0.steps": 3})
    assert run(monkeypatch, "compare", "one", "two") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^setting +one +two$", printed, flags=re.MULTILINE)
    assert re.search(r"^phases\.0\.steps +2 +3$", printed, flags=re.MULTILINE)
    assert re.search(r"^validation class_mAP@all +0\.\d+ +0\.\d+$|^validation class_mAP@all +1 +1$", printed, flags=re.MULTILINE)
    assert "with paired differences: --data DATA --split SPLIT" in printed
    assert Image.open("curves.png").width > 400
    more = ["--metrics", "Prec@2", "--curves", "both.png", "--device", "cpu"]
    assert run(monkeypatch, "compare", "one", "two", *DATA, *more) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^metric +one +two$", printed, flags=re.MULTILINE)
    line = r"^class_Prec@2 +two +[+-]0\.\d{4} +[+-]\d\.\d{4} to [+-]\d\.\d{4} +0\.\d{4} +(differs|not decided)$"
    assert re.search(line, printed, flags=re.MULTILINE)
    assert (here / "both.png").is_file()
    assert run(monkeypatch, "compare", "one", "my-data") == 2
    assert "my-data holds none of model.safetensors" in capsys.readouterr().err
    assert run(monkeypatch, "compare", "one", "two", *DATA, "--on", "training") == 2
    assert "expected test or validation" in capsys.readouterr().err


def test_runs_of_equal_settings_are_said_to_be_so(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trained(here / "one")
    trained(here / "two")
    assert run(monkeypatch, "compare", "one", "two") == 0
    assert "the runs have the same settings and data" in capsys.readouterr().out


def test_a_rate_is_suggested(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for s in [*SETTINGS, "phases.0.parameters=[]"] for word in ("--set", s)]
    assert run(monkeypatch, "tune-lr", "mathm", *DATA, *settings, "--steps", "30", "--device", "cpu", "--high", "10") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^\d+ steps, rates from 1e-07 to ", printed, flags=re.MULTILINE)
    assert re.search(r"^suggested: |^no suggestion: ", printed, flags=re.MULTILINE)
    if "suggested" in printed:
        assert re.search(r"--set phases\.0\.optimizer\.lr=\S+", printed)
    assert Image.open("rates.png").width > 400
    assert run(monkeypatch, "tune-lr", "mathm", *DATA, *settings, "--low", "1", "--high", "0.1") == 2
    assert "expected the first below the second" in capsys.readouterr().err


def test_a_step_is_profiled(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for s in SETTINGS for word in ("--set", s)]
    assert run(monkeypatch, "profile", "mathm", *DATA, *settings, "--steps", "2", "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert "images a second in batches of 8; peak memory" in printed
    for row in ("load", "encode", "losses", "backward", "update", "  loss balanced_triplet", "  miner", "all else"):
        assert re.search(rf"^{row} +[\d.]+ +[\d.]+%$", printed, flags=re.MULTILINE), row
    assert re.search(r"^operator +host, ms +calls a step$", printed, flags=re.MULTILINE)
    assert re.search(r"^- ", printed, flags=re.MULTILINE)
    assert "encoder.backbone is trained here" in printed
    assert run(monkeypatch, "profile", "mathm", *DATA, *settings, "--phase", "4") == 2
    assert "the recipe has no phases.4" in capsys.readouterr().err
