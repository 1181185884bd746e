"""Columns of the performance page: the table is that of the stored lines, and a curve grows no faster than its axis."""

from __future__ import annotations

import pytest

from benchmarks.experiments.folders import FOLDERS
from benchmarks.speed import columns
from benchmarks.speed.evaluation import CURVES


def test_the_page_has_the_table_of_the_stored_lines() -> None:
    page = (FOLDERS.docs / "performance.md").read_text(encoding="utf-8")
    assert f"{columns.BEGIN}\n{columns.table()}\n{columns.END}" in page


def test_every_column_has_every_cell() -> None:
    stored = columns.columns()
    assert stored
    for name, lines in stored.items():
        assert [words for words, cell in columns.rows() if not cell(lines)] == [], name


@pytest.mark.parametrize("axis", CURVES)
def test_no_curve_grows_faster_than_its_axis(axis: str) -> None:
    """From end to end, for times of neighbours differ by a half on a machine that is shared."""
    for name, lines in columns.columns().items():
        own = [(line[axis], line["seconds"]) for line in lines if line.get("curve") == axis]
        (count, time), (larger, longer) = own[0], own[-1]
        assert longer / time < 1.2 * larger / count, name
