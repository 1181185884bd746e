"""Counting agrees with sorting, for distances of any distribution, by the compiled kernel and without it."""

import logging

import numpy as np
import pytest
import torch
from torch import Tensor

from sbirlib import InputError
from sbirlib.retrieval.exact import fused
from sbirlib.retrieval.exact.counting import CROWDED, _count, ranks
from sbirlib.retrieval.exact.evaluate import evaluate_queries

WORLDS = {
    "spread": lambda draw: draw,
    "ties": lambda draw: draw.mul(200).round().div(200),
    "near zero and one outlier": lambda draw: draw.mul(1e-6).index_fill(1, torch.tensor([0]), 5.0),
    "a narrow band far off zero": lambda draw: draw.mul(1e-5).add(1.0),
    "large": lambda draw: draw.mul(1e30),
    "steps": lambda draw: draw.sign(),
    "infinite": lambda draw: draw.masked_fill(draw > 1.5, torch.inf),
    "minus infinity": lambda draw: draw.masked_fill(draw < -1.5, -torch.inf),
}


def world(kind: str, dtype: torch.dtype, most: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(most)
    rows = WORLDS[kind](torch.randn(7, 3000, generator=generator, dtype=torch.float64)).to(dtype)
    relevant = torch.randint(1, most + 1, (7, 1), generator=generator)
    own = rows[:, torch.randperm(3000, generator=generator)[:most]]
    padding = torch.arange(most) >= relevant
    return rows, own.masked_fill(padding, torch.inf).sort(dim=1).values, relevant


@pytest.fixture(params=["compiled", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both paths, whatever else was loaded in this process."""
    kernel = None
    if request.param == "compiled":
        pytest.importorskip("numba")
        kernel = fused.kernel()
        assert kernel is not None
    monkeypatch.setattr(fused, "loaded", lambda: kernel)
    return str(request.param)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", WORLDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("most", [1, 2, 40, 900])
def test_counting_is_sorting(kind: str, dtype: torch.dtype, most: int) -> None:
    rows, own, relevant = world(kind, dtype, most)
    below, equal = ranks(rows, own, relevant)
    for row, keys, count, lower, same in zip(rows, own, relevant[:, 0].tolist(), below, equal, strict=True):
        for key, before, ties in zip(keys[:count], lower.tolist(), same.tolist(), strict=False):
            assert (before, ties) == (int((row < key).sum()), int((row == key).sum()))


def test_ordinary_distances_are_counted_and_crowded_ones_are_not() -> None:
    rows, own, relevant = (values.numpy() for values in world("spread", torch.float32, 900))
    assert _count(rows, own, relevant) is not None
    assert _count(rows, np.zeros((7, CROWDED + 1), np.float32), np.full((7, 1), CROWDED + 1)) is None


def test_many_blocks_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "loaded", lambda: None)
    block = world("ties", torch.float32, 40)
    expected = ranks(*block)
    monkeypatch.setattr("sbirlib.retrieval.exact.counting.BLOCK", 6000)
    assert all(torch.equal(values, others) for values, others in zip(ranks(*block), expected, strict=True))


@pytest.mark.usefixtures("path")
def test_rows_of_a_wider_buffer_are_read_where_they_lie() -> None:
    rows, own, relevant = world("ties", torch.float32, 40)
    buffer = torch.full((9, 3010), torch.nan)
    buffer[2:9, 5:3005] = rows
    views = {"inside": buffer[2:9, 5:3005], "columns": rows.T.contiguous().T, "one row": buffer[8:, 5:3005]}
    assert fused.contiguous(views["columns"]).shape == (7, 3000)
    for name, view in views.items():
        part = slice(6, 7) if name == "one row" else slice(None)
        valid = torch.arange(40) < relevant[part]
        pairs = zip(ranks(view, own[part], relevant[part]), ranks(rows[part], own[part], relevant[part]), strict=True)
        assert all(torch.equal(values[valid], others[valid]) for values, others in pairs)


@pytest.mark.usefixtures("path")
def test_a_distance_that_is_not_a_number_is_refused() -> None:
    rows, own, relevant = world("spread", torch.float32, 40)
    rows[3, 17] = torch.nan
    with pytest.raises(InputError, match="a score is not a number"):
        ranks(rows, own, relevant)


def test_metrics_are_the_same_on_both_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(60, 2, 8, generator=generator), torch.randn(500, 8, generator=generator).mul(3).round()
    labels = [torch.randint(7, (n,), generator=generator) for n in (60, 500)]
    values = []
    for kernel in (None, fused.kernel()):
        monkeypatch.setattr(fused, "loaded", lambda kernel=kernel: kernel)
        values.append(evaluate_queries(queries, gallery, *labels, metrics=["mAP@all", "mAP@20:hits", "Prec@10", "Acc@1"]).values)
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


def test_a_numba_that_does_not_work_is_said_once_and_the_plain_path_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: str) -> None:
        raise SystemError("initialization of _internal failed")

    monkeypatch.setattr(fused, "find_spec", lambda _: object())
    monkeypatch.setattr(fused, "import_module", broken)
    fused.kernel.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                fused.load(fused.WORTH)
                assert fused.loaded() is None
        assert len(caplog.records) == 1
        assert "SystemError: initialization of _internal failed" in caplog.text
        assert ranks(*world("spread", torch.float32, 40))[0].shape == (7, 40)
        with pytest.raises(ValueError, match="wrong"):
            fused.check(lambda *_: True)
    finally:
        fused.kernel.cache_clear()


def test_a_small_evaluation_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "kernel", lambda: pytest.fail("numba was loaded for little work"))
    fused.load(fused.WORTH - 1)
