"""Commands of docs/training.md, run in order as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.commands import run
from tests.conftest import figure
from tests.processes.launch import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `my-data`, twelve classes of three images a modality, and the recipe of the page."""
    root = tmp_path
    for c in range(12):
        for i in range(4):
            for modality in ("sketch", "photo"):
                path = root / "my-data" / modality / f"class{c}" / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                figure(c % 6, 7 * c + i, modality == "sketch").rotate(90 * (c // 6), fillcolor="white").save(path)
    (root / "small.toml").write_text(blocks("toml")[0], encoding="utf-8")
    return root


def test_every_command_runs_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    commands = "".join(blocks("sh")).splitlines()
    assert len(commands) >= 11
    monkeypatch.chdir(folder)
    for line in commands:
        run(line, monkeypatch)
    output = "".join(capsys.readouterr())
    for name in ("first", "second", "packed"):
        assert (folder / "runs" / name / "best.safetensors").is_file()
    assert "phases.0.steps 30 -> 40" in output
    assert "2 processes (gloo)" in output
    assert re.search(r"the model is that of step \d+: class_mAP@all", output)
    files = re.findall(r"^runs/first/(\S+)", blocks("text")[0], flags=re.MULTILINE)
    assert len(files) == 6
    assert [name for name in files if not (folder / "runs" / "first" / name).exists()] == []
