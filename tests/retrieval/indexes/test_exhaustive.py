"""Exact search: equal photos in their order for any number of queries, and vectors that lie in a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.retrieval.indexes.photos import filled, random

from sbirlib.retrieval.indexes.base import read_index
from sbirlib.retrieval.indexes.flat import Flat


@pytest.mark.parametrize("dim", [33, 129, 512, 513])
@pytest.mark.parametrize("queries", [1, 2, 40, 300])
def test_equal_photos_come_in_their_order_however_many_queries_there_are(dim: int, queries: int) -> None:
    vectors = random(9003, dim)
    vectors[[5, 8999, 9000, 9001, 9002]] = vectors[0].clone()
    index = Flat()
    filled(index, vectors)
    scores, ids = index.search(vectors[:1].repeat(queries, 1), 4)
    assert ids.tolist() == [[0, 5, 8999, 9000]] * queries
    assert len(scores.unique()) == 1


@pytest.mark.filterwarnings("error")
def test_an_opened_index_is_searched_without_a_warning(tmp_path: Path) -> None:
    index, queries = filled(Flat(), random(9000, 16)), random(1, 16)
    index.save(tmp_path)
    assert torch.equal(read_index(tmp_path).search(queries, 3)[1], index.search(queries, 3)[1])


def test_torch_is_imported_before_faiss() -> None:
    """In the other order a search after a computation of torch takes 5 ms longer."""
    program = "import sys, sbirlib.retrieval.indexes.arrays; print([name for name in sys.modules if name in ('torch', 'faiss')])"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "['torch', 'faiss']"
