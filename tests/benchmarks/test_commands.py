"""Commands of the documents: every benchmark program that a document names exists, and every program is in benchmarks/README.md."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_programs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [name for name in re.findall(r"python -m (benchmarks[\w.]*\w)", text) if find_spec(name) is None] == []
    assert [name for name in re.findall(r"benchmarks/[\w/]+\.py", text) if not (ROOT / name).is_file()] == []


def test_every_program_is_in_the_table() -> None:
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for file in (ROOT / "benchmarks").rglob("*.py"):
        if 'if __name__ == "__main__"' in file.read_text(encoding="utf-8"):
            path = file.relative_to(ROOT)
            command = f"python {path}" if path.name == "run_all.py" else f"python -m {'.'.join(path.with_suffix('').parts)}"
            assert command in table
