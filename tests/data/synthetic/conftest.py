"""Fixtures of the tests of the synthetic dataset."""

import pytest

from sbirlib.data.dataset import Dataset
from sbirlib.data.synthetic import Synthetic, synthetic
from sbirlib.data.synthetic.categories import grammars
from sbirlib.data.synthetic.grammar import Grammar

CATEGORIES = 20


@pytest.fixture(scope="session")
def small() -> Dataset:
    """20 categories of 8 instances, 48 px."""
    return synthetic(categories=CATEGORIES, unseen=6, instances=8, sketches=2, size=48)


@pytest.fixture(scope="session")
def reader(small: Dataset) -> Synthetic:
    """The reader of `small`."""
    assert isinstance(small.reader, Synthetic)
    return small.reader


@pytest.fixture(scope="session")
def kinds() -> tuple[Grammar, ...]:
    """The grammars of 20 categories."""
    return grammars(0, CATEGORIES)
