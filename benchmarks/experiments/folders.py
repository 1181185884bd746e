"""Folders of results, of runs in progress and of the pages: the project's, or those of an experimenter (`run_all.py --out`)."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Folders:
    """Where results, runs in progress and pages are; `move` takes all of them into one folder."""

    results: Path = ROOT / "benchmarks" / "results"
    runs: Path = ROOT / "benchmarks" / "runs"
    docs: Path = ROOT / "docs"

    def move(self, folder: Path) -> None:
        """Take results, runs and pages to a folder, which is made."""
        self.results, self.runs, self.docs = folder / "results", folder / "runs", folder / "docs"
        self.docs.mkdir(parents=True, exist_ok=True)


FOLDERS = Folders()
