"""Folders of results, of runs in progress and of the pages: the project's, or those of an experimenter (`run_all.py --out`)."""

from dataclasses import dataclass
from pathlib import Path

from sbirlib.errors import InputError

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Folders:
    """Where results, runs in progress and pages are; `move` takes all of them into one folder."""

    results: Path = ROOT / "benchmarks" / "results"
    runs: Path = ROOT / "benchmarks" / "runs"
    docs: Path = ROOT / "docs"
    pictures: Path | None = None  # of the best and worst queries, which only an experimenter's own pages show

    def move(self, folder: Path) -> None:
        """Take results, runs and pages to a folder, which is made; InputError where there is a file in its place."""
        if not folder.is_dir() and folder.exists():
            raise InputError(f"--out takes a folder, and {str(folder)!r} is a file: name another")
        self.results, self.runs, self.docs = folder / "results", folder / "runs", folder / "pages"
        self.pictures = folder / "pictures"
        self.docs.mkdir(parents=True, exist_ok=True)

    def named(self, text: str) -> str:
        """Text of a page, with the folders' names as they are here."""
        own = {"benchmarks/results": "results", "docs/results": "pages/results"} if self.pictures else {}
        for name, other in own.items():
            text = text.replace(name, other)
        return text


FOLDERS = Folders()
