"""An empty place for experiments: definitions, results, runs and pages."""

from pathlib import Path

import pytest

from benchmarks.experiments import claims, definition
from benchmarks.experiments.folders import FOLDERS


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(definition, "DEFINITIONS", tmp_path / "definitions")
    for name in ("results", "runs", "docs"):
        monkeypatch.setattr(FOLDERS, name, tmp_path / name)
    monkeypatch.setattr(FOLDERS, "pictures", None)
    (tmp_path / "definitions").mkdir()
    (tmp_path / "docs" / "methods").mkdir(parents=True)
    for paper in claims.PAPERS:
        (tmp_path / "docs" / "methods" / f"{paper}.md").write_text(f"Before.\n\n{claims.BEGIN}\nold\n{claims.END}\n\nAfter.\n")
    return tmp_path
