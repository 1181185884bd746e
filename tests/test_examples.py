"""The programs of examples/: each runs as it stands, shortened where it trains for longer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.conftest import SMALL, write_figures

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, **shorter: str) -> dict[str, Any]:
    """Run a program with some texts replaced, each of which it must have, and return its names."""
    program = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    for text, other in shorter.items():
        assert text in program
        program = program.replace(text, other)
    names: dict[str, Any] = {"__name__": name}
    exec(compile(program, name, "exec"), names)
    return names


def test_the_quickstart_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run("quickstart", **{'"steps": 100': '"steps": 12', "categories=40": "categories=32", "instances=20": "instances=6"})
    printed = capsys.readouterr().out
    assert re.search(r"^before \{'mAP@all': .*\n(.*\n)*after ", printed, flags=re.MULTILINE)
    assert len(re.findall(r"^[1-5]  [01]\.\d{3}  .*  (?:right|wrong)$", printed, flags=re.MULTILINE)) == 5


def test_rows_of_a_paper_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    run("paper_row", **{'"phases.0.steps": 60': '"phases.0.steps": 2', '"phases.0.schedule.warmup": 10': '"phases.0.schedule.warmup": 1'})
    printed = capsys.readouterr().out
    assert len(re.findall(r"^(?:with|without) seed [01] \{'mAP@all': 0\.\d+\}$", printed, flags=re.MULTILINE)) == 4
    assert re.search(r"^with - without: [+-]0\.\d{3} \([+-]0\.\d{3} to [+-]0\.\d{3}\)$", printed, flags=re.MULTILINE)


def test_a_folder_is_trained_on_searched_and_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_figures(tmp_path / "my-data", each=4)
    Path("small.toml").write_text(SMALL)
    monkeypatch.setattr("sys.argv", ["your_folder.py", "my-data", "small.toml"])
    run("your_folder")
    assert len(re.findall(r"^\d  -?[01]\.\d{3}  .*\.png$", capsys.readouterr().out, flags=re.MULTILINE)) >= 4
    monkeypatch.setattr("sys.argv", ["serve_photos.py", "my-index"])
    with TestClient(run("serve_photos")["site"], base_url="http://127.0.0.1") as client:
        assert client.get("/").json() == {"photos": 4, "draw": "/photos/"}
        assert "<canvas" in client.get("/photos/").text
