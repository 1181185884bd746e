"""Evaluations that say nothing, by their labels alone, against the metrics of random vectors."""

import pytest
import torch

from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Encoded, Evaluator
from sbirlib.retrieval.evaluators import Category, Classification, Instance
from sbirlib.retrieval.informative import uninformative

CASES = {  # categories and instances of sketches, then of photos; the evaluator; the reason
    "one category": (
        [0, 0],
        [0, 1],
        [0, 0, 0],
        [0, 1, 2],
        Category(),
        "all 3 photos are of one category, so any order of them has mAP 1.000",
    ),
    "no relevant photo": ([0, 1], [0, 1], [2, 3], [2, 3], Category(), "no sketch shares its category with a photo"),
    "no instances": ([0, 1], [-1, -1], [0, 1], [0, 1], Instance(), "none of the 2 sketches has an instance"),
    "photos without instances": ([0, 1], [0, 1], [0, 1], [-1, -1], Instance(), "none of the 2 photos has an instance"),
    "other instances": ([0, 1], [0, 1], [0, 1], [2, 3], Instance(), "no sketch shares its instance with a photo"),
    "one photo": ([0], [5], [0], [5], Instance(), "all 1 photos are of one instance"),
    "one photo a category": (
        [0, 1],
        [0, 1],
        [0, 1],
        [0, 1],
        Instance(gallery="category"),
        "each category has photos of one instance alone",
    ),
    "no sketch": ([], [], [0, 1], [0, 1], Category(), "there are no sketches"),
    "two categories": ([0, 1], [0, 1], [0, 1], [0, 1], Category(), None),
    "one category, by instance": ([0, 0], [0, 1], [0, 0], [0, 1], Instance(gallery="category"), None),
    "one unknown among the photos": ([0, 0], [0, 1], [0, 0, -1], [0, 1, 2], Category(), None),
}


def labels(category: list[int], instance: list[int], seed: int = 0) -> Encoded:
    count = len(category)
    vectors = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return Encoded(vectors, torch.zeros(count).long(), torch.tensor(category).long(), torch.tensor(instance).long())


@pytest.mark.parametrize("case", CASES)
def test_an_evaluation_that_says_nothing_is_named(case: str) -> None:
    evaluator: Evaluator
    *rows, evaluator, reason = CASES[case]
    queries, gallery = labels(rows[0], rows[1]), labels(rows[2], rows[3])
    sentence = uninformative(queries, gallery, [evaluator])
    if reason is None:
        assert sentence is None
    else:
        assert sentence is not None
        assert f"says nothing here: {reason}" in sentence
        assert "choose a split" in sentence or "evaluate with 'category'" in sentence


@pytest.mark.parametrize("case", ["one category", "one photo", "one photo a category", "two categories", "one category, by instance"])
def test_the_metrics_of_random_vectors_agree(case: str) -> None:
    """Where all is said to be 1.000 it is so for any vectors, and elsewhere not for all."""
    *rows, evaluator, reason = CASES[case]
    metrics = []
    for seed in range(10):
        queries, gallery = labels(rows[0], rows[1], seed), labels(rows[2], rows[3], seed + 50)
        queries = Encoded(queries.vectors[:, None], queries.modality, queries.category, queries.instance)
        metrics.append(next(iter(evaluator.evaluate(queries, gallery).values())))
    assert (set(metrics) == {1.0}) == (reason is not None)


def test_labels_of_datasets_are_read_without_an_image(dataset: Dataset) -> None:
    one = dataset.subset(dataset.category == 0)
    assert uninformative(dataset.sketches, dataset.photos) is None
    assert "all 6 photos are of one category" in str(uninformative(one.sketches, one.photos))
    assert uninformative(one.sketches, one.photos, [Instance(), Classification()]) is None
    sentences = str(uninformative(one.sketches, one.sketches.subset(slice(0)), [Category(), Instance()]))
    assert sentences.count("there are no photos") == 2
