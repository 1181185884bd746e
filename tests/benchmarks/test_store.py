"""The results store: order, replacement, concurrent writers, damaged lines; and the committed results with their page."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from benchmarks.experiments import definition, store, tables
from benchmarks.experiments.folders import FOLDERS
from sbirlib.documents import with_digest
from sbirlib.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(FOLDERS, "results", tmp_path / "results")
    return tmp_path / "results"


def run(row: str, seed: int, **values: Any) -> dict[str, Any]:
    return {"experiment": "tiny", "row": row, "seed": seed, **values}


def test_runs_are_sorted_by_row_and_seed(folder: Path) -> None:
    for row, seed in (("b", 10), ("b", 9), ("a", 1), ("b", 2)):
        store.write(run(row, seed))
    lines = (folder / "tiny.jsonl").read_text(encoding="utf-8").splitlines()
    assert [(r["row"], r["seed"]) for r in map(json.loads, lines)] == [("a", 1), ("b", 2), ("b", 9), ("b", 10)]


def test_a_run_replaces_its_earlier_result_and_keeps_the_others_exactly(folder: Path) -> None:
    store.write(run("a", 0, metrics={"x": 0.1 + 0.2, "y": 1e-17}))
    before = (folder / "tiny.jsonl").read_bytes()
    store.write(run("a", 1, error="failed"))
    store.write(run("a", 1, metrics={"x": 1.0}))
    assert store.read("tiny") == [run("a", 0, metrics={"x": 0.1 + 0.2, "y": 1e-17}), run("a", 1, metrics={"x": 1.0})]
    assert (folder / "tiny.jsonl").read_bytes().startswith(before)


def test_runs_that_finish_at_the_same_moment_are_all_stored(folder: Path) -> None:
    """The lock is held for an open file, so it separates threads as it separates processes."""
    writers, each = 6, 8
    barrier = Barrier(writers)

    def write(row: int) -> None:
        barrier.wait()
        for seed in range(each):
            store.write(run(f"row {row}", seed))

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    assert len(store.read("tiny")) == writers * each


def test_a_failed_write_leaves_the_file_as_it_was(folder: Path) -> None:
    store.write(run("a", 0))
    before = (folder / "tiny.jsonl").read_bytes()
    with pytest.raises(TypeError):
        store.write(run("b", 0, metrics=object()))
    assert (folder / "tiny.jsonl").read_bytes() == before
    store.write(run("b", 0))  # the lock was released


def test_a_damaged_line_is_named(folder: Path) -> None:
    store.write(run("a", 0))
    altered = json.dumps({**json.loads((folder / "tiny.jsonl").read_text(encoding="utf-8")), "row": "b"})  # whose digest is another's
    for damage in ('{"row": "b"', '{"row": "b"}', "[]", "[" * 100_000, altered):
        (folder / "tiny.jsonl").write_text(json.dumps(run("a", 0)) + f"\n{damage}\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"tiny\.jsonl, line 2 is not a run .* restore the file"):
            store.read("tiny")


@pytest.mark.parametrize("path", sorted(FOLDERS.results.glob("*.jsonl")), ids=lambda path: path.stem)
def test_committed_results_are_as_the_store_writes_them(path: Path) -> None:
    runs = store.read(path.stem)
    assert path.read_text(encoding="utf-8") == "".join(json.dumps(with_digest(r), separators=(",", ":")) + "\n" for r in runs)
    keys = [(r["row"], r["seed"]) for r in runs]
    assert keys == sorted(set(keys))
    assert {r["experiment"] for r in runs} == {path.stem}


@pytest.mark.parametrize("name", ["acnet-qdphoto", "compositions-shoe304", "landmarks-number"])
def test_sections_of_the_page_are_rendered_from_the_store(name: str) -> None:
    assert tables.section(definition.read(name)) in (FOLDERS.docs / "results.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_is_rendered_from_the_store() -> None:
    assert tables.page() == (FOLDERS.docs / "results.md").read_text(encoding="utf-8")


def test_a_byte_that_is_no_text_is_named(folder: Path) -> None:
    store.write(run("a", 0))
    (folder / "tiny.jsonl").write_bytes((folder / "tiny.jsonl").read_bytes() + b"\xff\n")
    with pytest.raises(InputError, match=r"tiny\.jsonl, line 2: the byte 0xff is no UTF-8"):
        store.read("tiny")
