"""Evaluators against loops over queries and photos."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.retrieval.evaluators import Category, Classification, Instance, chance
from sbirlib.retrieval.exact.per_query import PerQuery


def encoded(vectors: Tensor, category: list[int], instance: list[int] | None = None, logits: Tensor | None = None) -> Encoded:
    count = len(category)
    return Encoded(vectors, torch.zeros(count).long(), torch.tensor(category), torch.tensor(instance or [-1] * count), logits)


def test_category_measures_by_category_and_reports_who_was_left_out() -> None:
    queries = encoded(torch.tensor([[[3.0, 2, 1]], [[3, 2, 1]], [[1, 1, 1]]]), [0, 9, 1])
    photos = encoded(torch.eye(3), [1, 0, 0])
    metrics = Category(metrics=("mAP@all", "Prec@1")).evaluate(queries, photos)
    assert metrics == {
        "mAP@all": pytest.approx(((1 / 2 + 2 / 3) / 2 + (1 + 1 / 2 + 1 / 3) / 3) / 2),
        "class_mAP@all": pytest.approx(((1 / 2 + 2 / 3) / 2 + (1 + 1 / 2 + 1 / 3) / 3) / 2),  # as many queries of both classes
        "Prec@1": pytest.approx((0 + 1 / 3) / 2),
        "class_Prec@1": pytest.approx((0 + 1 / 3) / 2),
        "queries_left_out": 1.0,
    }
    stable = Category(metrics=["Prec@1"], ties="stable").evaluate(queries[:1], photos)
    assert stable == {"Prec@1": 0.0, "class_Prec@1": 0.0}


def test_the_mean_over_classes_counts_each_class_once() -> None:
    """Of eight queries of class 0 all are answered, of two of class 1 none, and one of class 2 has no photo."""
    queries = encoded(torch.tensor([[[1.0, 0.0]]] * 11), [0] * 8 + [1, 1, 2], list(range(11)))
    photos = encoded(torch.tensor([[1.0, 0.0], [0.5, 0.0]]), [0, 1], [0, 8])
    metrics = Category(metrics=["Prec@1"]).evaluate(queries, photos)
    assert metrics == {"Prec@1": 0.8, "class_Prec@1": 0.5, "queries_left_out": 1.0}
    assert list(metrics) == ["Prec@1", "class_Prec@1", "queries_left_out"]
    assert Instance(metrics=["Acc@1"]).evaluate(queries, photos) == {"Acc@1": 0.5, "class_Acc@1": 0.5, "queries_left_out": 9.0}


def test_the_example_of_the_page_is_right() -> None:
    """Two models whose order depends on the mean."""
    category = torch.tensor([0] * 608 + [1] * 80)
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for model, first, second in (("A", 0.5, 0.3), ("B", 0.45, 0.6)):
        means = PerQuery({"mAP@all": torch.where(category == 0, first, second).double()}).averages(category)
        row = next(line for line in page.splitlines() if line.startswith(f"| {model} |")).replace("*", "")
        assert row == f"| {model} | {first:.2f} | {second:.2f} | {means['mAP@all']:.3f} | {means['class_mAP@all']:.3f} |"


def test_intervals_are_of_both_means() -> None:
    """One class of three has 200 queries: its value moves the mean over queries, and a third of the mean over classes."""
    category = torch.tensor([0] * 200 + [1] * 10 + [2] * 10)
    result = PerQuery({"Prec@1": torch.cat([torch.full((200,), 0.9), torch.full((10,), 0.1), torch.full((10,), 0.2)]).double()})
    assert result.class_means(category) == {"class_Prec@1": pytest.approx(0.4)}
    assert result.averages(category)["Prec@1"] == pytest.approx((180 + 1 + 2) / 220)
    low, high = result.intervals(category)["class_Prec@1"]
    assert low == pytest.approx(0.1)  # all three draws of one class: 1 in 27, and its queries are all alike
    assert high == pytest.approx(0.9)


@pytest.mark.parametrize("gallery", ["all", "category"])
def test_instance_finds_the_own_photo_and_counts_ties_against_us(gallery: str) -> None:
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randint(-2, 3, (24, 2, 4), generator=generator).float()
    photos = encoded(torch.randint(-2, 3, (12, 4), generator=generator).float(), [i % 3 for i in range(12)], list(range(12)))
    mine = [i // 2 if i != 5 else -1 for i in range(24)]
    queries = encoded(vectors, [(i // 2) % 3 if i < 22 else 7 for i in range(24)], mine)
    ranks: list[int] = []
    classes: list[int] = []

    def over_classes(k: int) -> float:
        own = [[rank <= k for rank, c in zip(ranks, classes, strict=True) if c == each] for each in set(classes)]
        return sum(sum(hits) / len(hits) for hits in own) / len(own)

    for i, own in enumerate(mine):
        rivals = [j for j in range(12) if gallery == "all" or photos.category[j] == queries.category[i]]
        if own in rivals:
            score = (vectors[i] @ photos.vectors.T).amax(0)
            ranks.append(sum(bool(score[j] >= score[own]) for j in rivals))
            classes.append(int(queries.category[i]))
    metrics = Instance(metrics=("Acc@1", "Acc@3"), gallery=gallery).evaluate(queries, photos)  # type: ignore[arg-type]
    assert metrics == {
        "Acc@1": pytest.approx(sum(r <= 1 for r in ranks) / len(ranks)),
        "Acc@3": pytest.approx(sum(r <= 3 for r in ranks) / len(ranks)),
        "class_Acc@1": pytest.approx(over_classes(1)),
        "class_Acc@3": pytest.approx(over_classes(3)),
        "queries_left_out": 24 - len(ranks),
    }


def test_a_collapsed_encoder_has_no_accuracy() -> None:
    same = torch.ones(6, 16)
    queries, photos = encoded(same[:, None], [0, 0, 0, 1, 1, 1], list(range(6))), encoded(same, [0, 0, 0, 1, 1, 1], list(range(6)))
    none = dict.fromkeys(("Acc@1", "class_Acc@1", "Acc@5", "class_Acc@5"), 0.0)
    assert Instance(metrics=["Acc@1", "Acc@5"]).evaluate(queries, photos) == none
    assert Instance(metrics=["Acc@2", "Acc@3"], gallery="category").evaluate(queries, photos) == {
        "Acc@2": 0.0,
        "class_Acc@2": 0.0,
        "Acc@3": 1.0,
        "class_Acc@3": 1.0,
    }


def test_classification_is_accuracy_and_average_precision_by_class() -> None:
    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    category = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(1))  # class 3 has no query
    metrics = Classification().evaluate(encoded(torch.ones(30, 1, 1), category.tolist(), logits=logits), encoded(torch.ones(1, 1), [0]))
    right = logits.argmax(1) == category
    means, averages = [], []
    for c in range(3):
        means.append(float(right[category == c].double().mean()))
        order = logits.double().softmax(1)[:, c].argsort(descending=True)
        hits = (category[order] == c).double()
        precision = hits.cumsum(0) / torch.arange(1, 31)
        averages.append(float((precision * hits).sum() / hits.sum()))
    assert metrics == {
        "accuracy": pytest.approx(float(right.double().mean())),
        "class_accuracy": pytest.approx(sum(means) / 3),
        "class_AP": pytest.approx(sum(averages) / 3, abs=1e-12),
    }


def test_chance_is_the_mean_over_all_rankings() -> None:
    queries, photos = encoded(torch.randn(3, 1, 2), [0, 0, 1]), encoded(torch.randn(6, 2), [0, 1, 0, 0, 1, 1])
    totals = []
    for order in itertools.permutations([True] * 3 + [False] * 3):
        places = [i for i, hit in enumerate(order) if hit]
        totals.append(sum((n + 1) / (place + 1) for n, place in enumerate(places)) / 3)
    metrics = chance(queries, photos)
    mean = pytest.approx(sum(totals) / len(totals), abs=1e-12)
    assert metrics == {"mAP@all": mean, "class_mAP@all": mean, "Prec@100": pytest.approx(3 / 100), "class_Prec@100": pytest.approx(3 / 100)}


def test_bad_options_and_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'mAP@all'"):
        Category(metrics=["mAP@al"])
    with pytest.raises(InputError, match="did you mean 'expected'"):
        Category(ties="expect")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'Acc@1'"):
        Instance(metrics=["acc@1"])
    with pytest.raises(InputError, match="did you mean 'category'"):
        Instance(gallery="categories")  # type: ignore[arg-type]
    queries, photos = encoded(torch.ones(2, 1, 2), [0, 3]), encoded(torch.ones(1, 2), [1])
    with pytest.raises(InputError, match="needs logits"):
        Classification().evaluate(queries, photos)
    for category in ([0, 3], [-1, 0]):
        with pytest.raises(InputError, match="categories 0 to 2 have logits"):
            Classification().evaluate(encoded(torch.ones(2, 1, 2), category, logits=torch.ones(2, 3)), photos)
    for evaluator in (Category(), Instance(), Instance(gallery="category")):
        with pytest.raises(InputError, match="no query has a relevant photo"):
            evaluator.evaluate(queries, photos)
