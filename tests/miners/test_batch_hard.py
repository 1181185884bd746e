from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbirlib.distance import euclidean
from sbirlib.interfaces import Batch, Features
from sbirlib.miners.batch_hard import BatchHard
from sbirlib.testing import check_part

MakeFeatures = Callable[..., Features]


def literal(distances: list[list[float]], category: list[int], source: list[int], same_source: bool) -> list[tuple[int, int, int]]:
    triplets = []
    rows = range(len(category))
    for a in rows:
        positives = [i for i in rows if i != a and category[i] == category[a] and (same_source or source[i] != source[a])]
        negatives = [i for i in rows if category[i] != category[a]]
        if positives and negatives:
            triplets.append((a, max(positives, key=lambda i: distances[a][i]), min(negatives, key=lambda i: distances[a][i])))
    return triplets


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 12), st.booleans())
def test_equals_a_search_by_loops(data: st.DataObject, count: int, same_source: bool) -> None:
    category = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    source = data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    distances = torch.randint(0, 4, (count, count)).float()  # few values, so many ties
    labels = torch.tensor(category)
    features = Features.of(Batch(torch.empty(count, 3, 0, 0), labels % 2, labels, labels), torch.randn(count, 3))
    features.source.copy_(torch.tensor(source))
    triplets = BatchHard(same_source=same_source)(features, distances)["hard"]
    rows = list(zip(triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist(), strict=True))
    assert rows == literal(distances.tolist(), category, source, same_source)


@pytest.mark.parametrize("category", [[0, 0, 0], [0, 1, 2], [0], []], ids=["one class", "no positive", "one row", "empty"])
def test_nothing_possible_gives_no_triplets(make_features: MakeFeatures, category: list[int]) -> None:
    features = make_features(torch.randn(len(category), 4), category)
    assert len(BatchHard()(features, euclidean(features.vector))["hard"]) == 0


def test_two_views_of_one_image_are_no_pair_when_told(make_features: MakeFeatures) -> None:
    features = make_features(torch.randn(4, 4), [0, 0, 1, 1], source=[0, 0, 1, 2])
    distances = euclidean(features.vector)
    assert BatchHard()(features, distances)["hard"].anchor.tolist() == [0, 1, 2, 3]
    assert BatchHard(same_source=False)(features, distances)["hard"].anchor.tolist() == [2, 3]


def test_conforms_with_the_search_by_loops_as_its_oracle() -> None:
    def oracle(features: Features, distances: torch.Tensor) -> dict[str, list[tuple[int, int, int]]]:
        return {"hard": literal(distances.tolist(), features.category.tolist(), features.source.tolist(), True)}

    check_part("miner", "batch_hard", oracle=oracle)
