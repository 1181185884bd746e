"""Commands of docs/training.md, run in order as they are printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.conftest import figure
from tests.processes.launch import ROOT, environment

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


@pytest.mark.xdist_group("processes")
def test_every_command_runs_in_order(folder: Path) -> None:
    commands = "".join(blocks("sh"))
    assert commands.count("\n") >= 11
    process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    for run in ("first", "second", "packed"):
        assert (folder / "runs" / run / "best.safetensors").is_file()
    assert "phases.0.steps 30 -> 40" in process.stderr
    assert "2 processes (gloo)" in process.stderr
    assert re.search(r"the model is that of step \d+: class_mAP@all", process.stderr)
    files = re.findall(r"^runs/first/(\S+)", blocks("text")[0], flags=re.MULTILINE)
    assert len(files) == 6
    assert [name for name in files if not (folder / "runs" / "first" / name).exists()] == []
