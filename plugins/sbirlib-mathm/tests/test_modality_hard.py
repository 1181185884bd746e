from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Features
from sbirlib.testing import check_part
from sbirlib_mathm.modality_hard import ModalityHard

Rows = list[tuple[int, int, int]]
Mining = Literal["hardest", "semi_hard", "random"]
MINING: tuple[Mining, ...] = ("hardest", "semi_hard", "random")


def rows_of(modality: list[int], category: list[int], source: list[int]) -> Features:
    count = len(category)
    labels = torch.tensor(category, dtype=torch.int64)
    batch = Batch(torch.empty(count, 3, 0, 0), torch.tensor(modality, dtype=torch.int64), labels, labels)
    features = Features.of(batch, torch.randn(count, 3))
    features.source.copy_(torch.tensor(source, dtype=torch.int64))
    return features


def literal(features: Features, distances: list[list[float]], kind: str, same_source: bool) -> Rows:
    """Eq. 5 for every anchor of either modality, word by word."""
    m, y, source = features.modality.tolist(), features.category.tolist(), features.source.tolist()
    rows = range(len(y))
    triplets = []
    for a in rows:
        m_p = m[a] if kind == "within" else 1 - m[a]
        m_n = 1 - m[a] if kind == "cross" else m[a]
        positives = [i for i in rows if i != a and y[i] == y[a] and m[i] == m_p and (same_source or source[i] != source[a])]
        negatives = [j for j in rows if y[j] != y[a] and m[j] == m_n]
        if positives and negatives:
            triplets.append((a, max(positives, key=lambda i: distances[a][i]), min(negatives, key=lambda j: distances[a][j])))
    return triplets


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(0, 14), st.booleans())
def test_equals_equation_5_by_loops(data: st.DataObject, count: int, same_source: bool) -> None:
    def draw(high: int) -> list[int]:
        return data.draw(st.lists(st.integers(0, high), min_size=count, max_size=count))

    features = rows_of(draw(1), draw(2), draw(6))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    distances = torch.randint(0, 5, (count, count)).float()  # few values, so many ties
    triplets_by_kind = ModalityHard(same_source=same_source)(features, distances)
    assert list(triplets_by_kind) == ["cross", "within", "hybrid"]
    for kind, triplets in triplets_by_kind.items():
        rows = list(zip(triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist(), strict=True))
        assert rows == literal(features, distances.tolist(), kind, same_source)


@pytest.mark.parametrize("mining", MINING[1:])
def test_other_mining_has_the_same_anchors_and_its_own_choice(mining: Mining) -> None:
    torch.manual_seed(0)
    modality, category = torch.randint(0, 2, (24,)).tolist(), torch.randint(0, 4, (24,)).tolist()
    features = rows_of(modality, category, list(range(24)))
    chosen: dict[str, set[tuple[int, int, int]]] = {}
    for _ in range(150):
        distances = torch.rand(24, 24)
        for kind, triplets in ModalityHard(mining=mining)(features, distances).items():
            assert triplets.anchor.tolist() == [a for a, _, _ in literal(features, distances.tolist(), kind, True)]
            rows = list(zip(triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist(), strict=True))
            chosen.setdefault(kind, set()).update(rows)
            for a, p, n in rows if mining == "semi_hard" else ():
                others = [j for j in range(24) if category[j] != category[a] and (modality[j] != modality[a]) == (kind == "cross")]
                beyond = [j for j in others if distances[a, j] > distances[a, p]]
                assert n == (min(beyond, key=lambda j: distances[a, j]) if beyond else max(others, key=lambda j: distances[a, j]))
    for kind, triplets_seen in chosen.items():  # every positive and every negative that the kind allows, in the end, and no other
        pairs = [(i, j) for i in {a for a, _, _ in triplets_seen} for j in range(24) if i != j]
        alike = {(i, j): category[i] == category[j] for i, j in pairs}
        across = {(i, j): modality[i] != modality[j] for i, j in pairs}
        assert {(a, p) for a, p, _ in triplets_seen} == {pair for pair in pairs if alike[pair] and across[pair] == (kind != "within")}
        assert {(a, n) for a, _, n in triplets_seen} == {pair for pair in pairs if not alike[pair] and across[pair] == (kind == "cross")}


def test_only_the_kinds_asked_for_in_their_order() -> None:
    features = rows_of([0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 2, 3])
    triplets_by_kind = ModalityHard(kinds=["hybrid", "cross"])(features, torch.rand(4, 4))
    assert {kind: len(triplets) for kind, triplets in triplets_by_kind.items()} == {"hybrid": 4, "cross": 4}


@pytest.mark.parametrize(
    ("modality", "category", "sizes"),
    [
        ([0, 1, 0, 1], [0, 0, 0, 0], (0, 0, 0)),  # one class
        ([0, 0, 0, 0], [0, 0, 1, 1], (0, 4, 0)),  # one modality
        ([0, 1, 0, 1], [0, 1, 2, 3], (0, 0, 0)),  # no positives
        ([0, 1, 0, 1], [0, 0, 1, 1], (4, 0, 4)),  # one sketch and one photo a class
        ([], [], (0, 0, 0)),
    ],
)
@pytest.mark.parametrize("mining", MINING)
def test_what_is_not_possible_is_empty(mining: Mining, modality: list[int], category: list[int], sizes: tuple[int, int, int]) -> None:
    features = rows_of(modality, category, list(range(len(category))))
    triplets_by_kind = ModalityHard(mining=mining)(features, torch.rand(len(category), len(category)))
    assert tuple(len(triplets) for triplets in triplets_by_kind.values()) == sizes


def test_a_synthesised_view_is_no_positive_of_its_own_image_when_told() -> None:
    features = rows_of([0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1])
    assert len(ModalityHard()(features, torch.rand(4, 4))["cross"]) == 4
    assert len(ModalityHard(same_source=False)(features, torch.rand(4, 4))["cross"]) == 0


@pytest.mark.parametrize("mining", MINING[1:])
def test_other_mining_conforms(mining: Mining) -> None:
    check_part("miner", "modality_hard", options={"mining": mining})


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InputError, match=r"kinds = \['cros'\]: expected a list, each item one of 'cross', 'within', 'hybrid'"):
        ModalityHard(kinds=["cros"])  # type: ignore[list-item]


@pytest.mark.parametrize("kinds", ["cross", []])
def test_kinds_must_be_a_list_with_something_in_it(kinds: list[str]) -> None:
    with pytest.raises(InputError, match="expected a list, each item one of .*, at least 1 in all"):
        ModalityHard(kinds=kinds)  # type: ignore[arg-type]


def test_conforms_with_equation_5_as_its_oracle() -> None:
    def oracle(features: Features, distances: torch.Tensor) -> dict[str, Rows]:
        return {kind: literal(features, distances.tolist(), kind, True) for kind in ("cross", "within", "hybrid")}

    check_part("miner", "modality_hard", oracle=oracle)
