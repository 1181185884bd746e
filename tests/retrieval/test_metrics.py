"""Every metric against the reference implementation, and that against values by hand."""

import doctest
import re
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.exact import evaluate, metrics, product, reference
from sbirlib.retrieval.exact.evaluate import evaluate_queries
from sbirlib.retrieval.exact.metrics import read_metric
from sbirlib.retrieval.exact.ranking import TIES


def names(k: int) -> list[str]:
    return [form.replace("@k", f"@{k}") for form in metrics.METRICS]


def with_scores(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and a gallery whose inner products are `scores` [Q, S, G]."""
    return scores, torch.eye(scores.shape[2], dtype=scores.dtype)


@st.composite
def retrievals(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    queries, draws, photos = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 8))
    levels = draw(st.sampled_from([1, 2, 3, 50]))

    def numbers(least: int, most: int, count: int) -> Tensor:
        return torch.tensor(draw(st.lists(st.integers(least, most), min_size=count, max_size=count)))

    scores = numbers(-levels, levels - 1, queries * draws * photos).double().reshape(queries, draws, photos)
    return scores, numbers(-1, 2, queries), numbers(-1, 2, photos)


@pytest.mark.parametrize("ties", TIES)
@settings(max_examples=60, deadline=None)
@given(retrieval=retrievals(), k=st.integers(1, 10))
def test_every_metric_equals_its_reference(ties: str, retrieval: tuple[Tensor, Tensor, Tensor], k: int) -> None:
    scores, query_labels, gallery_labels = retrieval
    result = evaluate_queries(*with_scores(scores), query_labels, gallery_labels, metrics=names(k), ties=ties)
    best = scores.amax(1).tolist()
    relevant = ((query_labels[:, None] == gallery_labels) & (query_labels[:, None] >= 0)).tolist()
    assert result.left_out == sum(not any(row) for row in relevant)
    for name in names(k):
        expected = [reference.reference(row, flags, name, ties) for row, flags in zip(best, relevant, strict=True)]
        assert result.values[name].tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("levels", [4, 40, 10**9])
def test_a_larger_gallery_with_ties_is_exact(levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(levels, (3, 1, 400), generator=generator).double()
    labels, mine = torch.randint(3, (400,), generator=generator), torch.arange(3)
    result = evaluate_queries(*with_scores(scores), mine, labels, metrics=["mAP@all", "mAP@100", "Prec@100"])
    for row in range(3):
        shares, hits = [], []  # expected precision and expected relevance by place, group of equals after group
        before = place = 0
        for score in scores[row, 0].unique().flip(0):
            flags = labels[scores[row, 0] == score] == row
            n, r = len(flags), int(flags.sum())
            for i in range(n):
                shares.append(r / n * (before + 1 + (i * (r - 1) / (n - 1) if n > 1 else 0)) / (place + i + 1))
                hits.append(r / n)
            before, place = before + r, place + n
        total = int((labels == row).sum())
        assert float(result.values["mAP@all"][row]) == pytest.approx(sum(shares) / total, abs=1e-12)
        assert float(result.values["mAP@100"][row]) == pytest.approx(sum(shares[:100]) / min(100, total), abs=1e-12)
        assert float(result.values["Prec@100"][row]) == pytest.approx(sum(hits[:100]) / 100, abs=1e-12)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_and_threads_do_not_change_the_result(ties: str, threads: int, request: pytest.FixtureRequest) -> None:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randint(-1, 2, (30, 3, 8), generator=generator).float()
    gallery = torch.randint(-1, 2, (57, 8), generator=generator).float()
    labels = torch.randint(5, (30,), generator=generator), torch.randint(1, 7, (57,), generator=generator)
    whole = evaluate_queries(queries, gallery, *labels, metrics=names(5), ties=ties)
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(threads)
    for memory in (1, 3000, 20000):
        chunks = evaluate_queries(queries, gallery, *labels, metrics=names(5), ties=ties, memory=memory)
        for name in names(5):
            assert torch.allclose(chunks.values[name], whole.values[name], rtol=0, atol=1e-15, equal_nan=True), name


def test_equal_photos_tie_even_for_a_single_query() -> None:
    query = torch.randn(1, 1, 512, generator=torch.Generator().manual_seed(0))
    gallery = query[0].expand(1003, 512).contiguous()
    labels = torch.arange(1003)
    values = evaluate_queries(query, gallery, torch.tensor([0]), labels, metrics=["Acc@1", "Acc@1002", "Acc@1003", "Prec@1"]).values
    assert [float(v) for v in values.values()] == [0, 0, 1, pytest.approx(1 / 1003)]


def test_negative_infinity_ranks_last_and_half_precision_is_promoted() -> None:
    scores = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float16)
    labels = torch.tensor([0]), torch.tensor([0, 1, 1])
    assert evaluate_queries(*with_scores(scores), *labels, metrics=["mAP@all"]).means["mAP@all"] == pytest.approx(1 / 3, abs=1e-12)
    gallery = torch.tensor([[-torch.inf], [0.5], [-torch.inf]])
    result = evaluate_queries(torch.ones(1, 1, 1), gallery, torch.tensor([0]), torch.tensor([0, 1, 0]), metrics=["mAP@all"])
    assert result.means["mAP@all"] == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-12)


def test_means_leave_out_queries_without_a_relevant_photo() -> None:
    scores = torch.tensor([[[2.0, 1.0]], [[2.0, 1.0]], [[1.0, 2.0]]])
    result = evaluate_queries(*with_scores(scores), torch.tensor([0, 5, 0]), torch.tensor([0, 1]), metrics=["mAP@all"])
    assert result.left_out == 1
    assert result.means["mAP@all"] == pytest.approx(0.75)
    assert result.values["mAP@all"][1].isnan()
    with pytest.raises(InputError, match="no query has a relevant photo"):
        _ = evaluate_queries(*with_scores(scores), torch.full((3,), 5), torch.tensor([0, 1]), metrics=["mAP@all"]).means


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("map@all", "no metric 'map@all'; did you mean 'mAP@all'"),
        ("Prec@20:mni", "did you mean 'Prec@20:min'"),
        ("mAP@100:min", "no metric 'mAP@100:min'"),
        ("mAP@0", "k counts from 1"),
        ("mAP@k", "no metric 'mAP@k'"),
        ("Prec@all", "no metric 'Prec@all'"),
        ("Acc@5x", "did you mean 'Acc@5'"),
        ("", "no metric ''"),
    ],
)
def test_an_unknown_metric_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_metric(name)


def test_bad_input_is_refused() -> None:
    query, gallery, mine, labels = torch.ones(2, 1, 3), torch.ones(4, 3), torch.zeros(2).long(), torch.zeros(4).long()

    def refused(said: str, *args: Tensor, names: tuple[str, ...] = ("mAP@all",), ties: str = "expected") -> None:
        with pytest.raises(InputError, match=said):
            evaluate_queries(*args, metrics=names, ties=ties)

    refused(r"\[Q, S, V\] and a gallery \[G, V\] were expected, got \[2, 3\]", query[:, 0], gallery, mine, labels)
    refused("were expected, got", query, gallery[:, :2], mine, labels)
    refused("there are no queries", query[:0], gallery, mine[:0], labels)
    refused("there are no gallery photos", query, gallery[:0], mine, labels[:0])
    refused("2 queries need as many integer labels", query, gallery, mine[:1], labels)
    refused("4 gallery photos need as many integer labels", query, gallery, mine, labels.float())
    refused("a score is not a number", query * torch.nan, gallery, mine, labels)
    refused("did you mean 'stable'", query, gallery, mine, labels, ties="stabel")
    refused("no metric was asked for", query, gallery, mine, labels, names=())


def test_the_examples_run() -> None:
    counts = {evaluate: 2, metrics: 2, reference: 1}
    for module, count in counts.items():
        assert doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL) == (0, count)


def test_packed_codes_rank_by_hamming_distance() -> None:
    bits = torch.randint(0, 2, (60, 40), generator=torch.Generator().manual_seed(0))
    packed = torch.from_numpy(np.packbits(bits.numpy(), axis=1, bitorder="little"))
    labels = torch.arange(60) % 4
    hamming = (bits[:20, None] != bits).sum(2)
    some = ["mAP@all", "mAP@10", "Prec@10", "Acc@1"]
    result = evaluate_queries(packed[:20, None], packed, labels[:20], labels, metrics=some)
    scores = torch.nn.functional.one_hot(torch.arange(20), 20).double()[:, None], -hamming.T.double()  # each query's products are its row
    expected = evaluate_queries(*scores, labels[:20], labels, metrics=some)
    for name in some:
        assert torch.equal(result.values[name], expected.values[name])


@pytest.mark.parametrize("size", [1, 30, 1024, 2047, 2049, 5001, 17_000])
def test_products_of_a_gallery_of_any_size(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    rows, gallery = (torch.randn(n, 16, dtype=torch.float64, generator=generator) for n in (5, size))
    multiply = product.Product(gallery, 4)
    for some in (rows[:4], rows[4:]):
        products, tiles = multiply(some)
        for fill in reversed(tiles):
            fill()
        assert torch.allclose(products, some @ gallery.T, atol=1e-12)


@pytest.mark.parametrize("size", [1025, 2047, 12_553])
def test_equal_photos_are_equal_in_every_tile(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    multiply = product.Product(torch.randn(1, 512, generator=generator).expand(size, -1).contiguous(), 32)
    for count in (1, 2, 3, 17, 32):
        products, tiles = multiply(torch.randn(count, 512, generator=generator))
        for fill in tiles:
            fill()
        assert (products == products[:, :1]).all()


def test_the_examples_in_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    relevant = torch.tensor([0, 1, 1, 0, 0, 1])

    def computed(name: str) -> float:
        scores = torch.arange(6.0).flip(0)[:, None]
        value = evaluate_queries(torch.ones(1, 1, 1), scores, torch.tensor([1]), relevant, metrics=[name]).means[name]
        assert reference.metric_of_order((relevant == 1).tolist(), name) == pytest.approx(value, abs=1e-12)
        return value

    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if re.match(r"\| \w+@k", line)]
    assert {line[0] for line in lines} == {name for name in metrics.METRICS if "@k" in name}
    for name, _, *values in lines:
        for k, value in zip((2, 4, 6), values, strict=True):
            assert computed(name.replace("@k", f"@{k}")) == pytest.approx(float(Fraction(value)), abs=1e-12)
    assert "mAP@all is the sum of the precisions at all relevant photos / R: 5/9" in page
    assert computed("mAP@all") == pytest.approx(5 / 9, abs=1e-12)
    assert computed("mAP@all:voc") == pytest.approx(11 / 18, abs=1e-12)
