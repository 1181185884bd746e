"""An empty place for experiments: definitions, results, runs and pages."""

from pathlib import Path

import pytest

from benchmarks.experiments import claims, definition, runs, store, tables, web


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(definition, "DEFINITIONS", tmp_path / "definitions")
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(tables, "PAGE", tmp_path / "docs" / "results.md")
    monkeypatch.setattr(claims, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(web, "PAGE", tmp_path / "docs" / "results.html")
    (tmp_path / "definitions").mkdir()
    (tmp_path / "docs" / "methods").mkdir(parents=True)
    for paper in claims.PAPERS:
        (tmp_path / "docs" / "methods" / f"{paper}.md").write_text(f"Before.\n\n{claims.BEGIN}\nold\n{claims.END}\n\nAfter.\n")
    return tmp_path
