"""Every format in a few hundred damaged and forged forms, and the forms in which sbirlib failed once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz.case import CORPUS, corpus
from tests.fuzz.harness import Tally, fuzz, replay, scratch
from tests.fuzz.operations import structure, tensors
from tests.fuzz.report import failures, table
from tests.fuzz.targets.all import TARGETS

CASES, SEED = 200, 0
FEW = ("checkpoint", "stdin", "filters", "grown_hnsw", "grown_ivfpq", "grown_itq", "model_saved")  # slow, or like another
CASES_OF_FEW = 60


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as folder:
        yield folder


def check(tally: Tally) -> None:
    assert not tally.failures, f"\n{table([tally])}\n{failures([tally], SEED)}"


@pytest.mark.parametrize("target", TARGETS)
def test_a_damaged_or_forged_file_is_an_input_error_or_gives_an_answer(target: str, folder: Path) -> None:
    tally = fuzz(target, folder, cases=CASES_OF_FEW if target in FEW else CASES, seed=SEED)
    check(tally)
    assert tally.verdicts["InputError"] + tally.verdicts["other"], "every case gave the same answer: does the target read what is altered?"


@pytest.mark.parametrize("target", sorted({case.target for case in corpus().values()}))
def test_what_failed_once_fails_no_more(target: str, folder: Path) -> None:
    check(replay(target, [case for case in corpus().values() if case.target == target], folder))


def test_the_corpus_names_targets() -> None:
    assert all(case.target in TARGETS and case.operations for case in corpus().values()), f"an entry of {CORPUS} is of no target"


def test_json_is_altered_where_the_path_says() -> None:
    text = b'{"a": [1, 2], "b": "{\\"c\\": 3}"}'
    assert structure.change_json(text, path=["b", "@json", "c"], do="set", value={"raw": "NaN"}) == b'{"a":[1,2],"b":"{\\"c\\":NaN}"}'
    assert structure.change_json(text, path=[], do="repeat", place=0, times=2).count(b'"a":[1,2]') == 2
    assert structure.change_json(text, path=["a"], do="set", value={"nest": 3, "open": "[", "close": "]"}).startswith(b'{"a":[[[]]]')


def test_tensors_are_altered_with_a_header_that_fits() -> None:
    entries = [tensors.Entry("x", "F32", [2, 2], bytes(range(16))), tensors.Entry("y", "I64", [1], bytes(8))]
    content = tensors.written({"about": "nothing"}, entries)
    assert tensors.read(content) == ({"about": "nothing"}, entries)
    resized = tensors.read(tensors.change_tensor(content, "x", "resize", rows=3))[1]
    assert [(entry.shape, len(entry.data)) for entry in resized] == [([3, 2], 24), ([1], 8)]
