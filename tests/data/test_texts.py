"""Texts in one buffer: a sequence like a list of them, and the memory of an open dataset."""

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbirlib.data.folder import from_entries
from sbirlib.data.layout import Entry
from sbirlib.data.texts import Texts

MEMORY = 60  # bytes of an image of an open dataset beside its key: labels, position, start of the key


@given(st.lists(st.text()))
def test_texts_are_those_that_were_given(given_texts: list[str]) -> None:
    texts = Texts.of(given_texts)
    assert list(texts) == given_texts
    assert texts[:3] == given_texts[:3]
    assert len(texts) == len(given_texts)
    assert texts == Texts.of(given_texts)
    assert [texts[i - len(texts)] for i in range(len(texts))] == given_texts


def test_file_names_that_are_no_text_are_kept() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    assert list(Texts.of([name])) == [name]


@pytest.mark.parametrize("i", [2, -3])
def test_a_place_outside_is_an_index_error(i: int) -> None:
    with pytest.raises(IndexError, match="among 2"):
        Texts.of(["a", "b"])[i]


def test_an_open_dataset_holds_arrays_and_no_object_for_each_image() -> None:
    n = 20_000
    rows = [Entry(f"{('sketch', 'photo')[i % 2]}/c{i // 2 % 50}/{i:06d}.jpg", i % 2, f"c{i // 2 % 50}", f"{i // 2}") for i in range(n)]
    tracemalloc.start()
    try:
        dataset = from_entries("many", Path("/nowhere"), rows)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(dataset) == n
    assert dataset.key(3) == rows[3].path
    assert used / n < MEMORY + sum(len(row.path) for row in rows) / n
