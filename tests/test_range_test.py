"""Learning-rate range test: curves whose answer is known, and a small recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sbirlib import build, split
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.range_test import RangeCurve, RangeTest, _follow, _spread, range_test, save_curve, weighted
from sbirlib.testing.world import separable

SMALL: dict[str, Any] = {
    "encoder": {"backbone": "resnet10t", "pretrained": False, "dim": 8},
    "transform": {"size": 32},
    "sampler": {"categories": 2, "per_modality": 2},
    "phases": [{"optimizer": {"lr": 1e-3}, "parameters": [{"of": "encoder.backbone", "lr": 1e-4}]}],
}
RATES = np.logspace(-7, 0, 100)


def curve_of(losses: np.ndarray, spreads: np.ndarray | None = None) -> RangeCurve:
    return RangeCurve(RATES[: len(losses)], losses, np.ones(len(losses)) if spreads is None else spreads, 1e-3, {})


def falling(centre: float, noise: float = 0.0) -> np.ndarray:
    """A loss that falls from 2 to 1 around a rate, a decade wide, and rises steeply a decade and a half above it."""
    place = np.log10(RATES / centre)
    curve = 2 - 1 / (1 + np.exp(-6 * place)) + np.exp(8 * (place - 1.6))
    return np.asarray(curve + noise * np.random.default_rng(0).standard_normal(len(RATES)))[: int((curve < 8).sum())]


@pytest.fixture(scope="module")
def parts() -> Dataset:
    data = separable()
    return split(data, list(data.categories[-2:]))


def test_a_rate_grows_exponentially_between_its_ends() -> None:
    schedule = RangeTest(low=1e-4, high=1e2)
    factors = [schedule.factor(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(1e-4)
    assert factors[-1] == pytest.approx(1e2)
    assert np.allclose(np.diff(np.log(factors)), np.log(1e6) / 99)
    assert schedule.factor(0, 1) == pytest.approx(1e-4)
    with pytest.raises(InputError, match="low"):
        RangeTest(low=0.0, high=1.0)


@pytest.mark.parametrize("centre", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_steepest_descent_is_where_the_loss_falls(centre: float, noise: float) -> None:
    curve = curve_of(falling(centre, noise))
    assert curve.fell
    assert curve.steepest == pytest.approx(centre, rel=1.0 if noise else 0.3)
    assert 4 * centre < curve.lowest < 100 * centre
    assert curve.suggestion is not None
    rate, reason = curve.suggestion
    assert rate == min(max(curve.steepest, curve.lowest / 10), curve.lowest / 2)
    assert ("the loss falls fastest there" in reason) == (rate == curve.steepest)


def test_a_suggestion_keeps_away_from_both_ends() -> None:
    place = np.log10(RATES)
    slow = curve_of(1 - 0.1 * np.clip(place + 6, 0, 4.5) - 0.3 / (1 + np.exp(-20 * (place + 6))) + np.exp(20 * (place + 1)))
    assert slow.suggestion is not None
    assert slow.suggestion[0] == slow.lowest / 10 > 3 * slow.steepest
    assert "a tenth of the rate at the minimum" in slow.suggestion[1]
    sharp = curve_of(np.where(place < -2, 1 - 0.2 * (place > -2.2), 5.0))
    assert sharp.suggestion is not None
    assert sharp.suggestion[0] == sharp.lowest / 2 < sharp.steepest
    assert "half the rate at the minimum" in sharp.suggestion[1]


def test_of_noise_alone_no_rate_is_suggested() -> None:
    flat = curve_of(2 + 0.3 * np.random.default_rng(1).standard_normal(100))
    assert not flat.fell
    assert flat.suggestion is None
    rising = curve_of(np.concatenate([np.full(80, 2.0), np.linspace(2, 9, 20)]) + 0.01 * np.random.default_rng(1).standard_normal(100))
    assert rising.suggestion is None


def test_all_rates_of_the_recipe_move_together(parts: Dataset) -> None:
    curve = range_test("mathm", parts, steps=12, low=1e-6, high=1e-1, device="cpu", progress=False, **SMALL)
    assert curve.rates[0] == pytest.approx(1e-6)
    assert curve.rate == 1e-3
    assert len(curve.rates) == len(curve.losses) == len(curve.spreads) == 12 or curve.end != "last step"
    assert curve.scaled(0.1) == pytest.approx({"phases.0.optimizer.lr": 0.1, "phases.0.parameters.0.lr": 0.01})
    assert curve.thawed == ("encoder.backbone",)  # which MATHM freezes for 400 steps


def test_the_rates_of_the_groups_are_those_of_the_curve(parts: Dataset) -> None:
    """The same modified recipe, step by step: the ratio of the groups stays, and the largest is the curve's rate."""
    schedule = {"phases.0.schedule": RangeTest(low=1e-3, high=1e2), "phases.0.steps": 10, "phases.0.parameters.0.frozen": 0}
    rates = [dict(event.lr) for event in build("mathm", **SMALL, **schedule).steps(parts, device="cpu")]
    assert all(lr["encoder.backbone"] == pytest.approx(0.1 * lr["rest"]) for lr in rates)
    assert [lr["rest"] for lr in rates] == pytest.approx(np.logspace(-6, -1, 10).tolist())


def test_a_divergence_ends_the_test(parts: Dataset) -> None:
    curve = range_test("mathm", parts, steps=40, low=1e-2, high=1e6, device="cpu", progress=False, **SMALL)
    assert curve.end in ("diverged", "collapsed")
    assert len(curve.losses) < 40
    assert np.isfinite(curve.losses).all()


def collapse(learning: float) -> RangeCurve:
    """A triplet loss that falls around a rate, and again, to its margin, where all images get one vector, at 0.01 and above."""
    place = np.log10(RATES)
    learnt = 0.2 / (1 + np.exp(-4 * (place - np.log10(learning))))
    together = 1 / (1 + np.exp(-12 * (place + 2)))
    noise = 0.02 * (1 - together) * np.random.default_rng(0).standard_normal(len(RATES))
    return curve_of((0.6 - learnt) * (1 - together) + 0.2 * together + noise, 1 - together)


def test_a_fall_of_the_loss_to_one_vector_for_all_images_is_no_learning() -> None:
    curve = collapse(3e-5)
    assert curve.losses[-1] == pytest.approx(0.2, abs=0.01)
    assert curve.losses.min() == pytest.approx(0.2, abs=0.02)
    assert 4e-3 < curve.rates[curve.sound] < 1e-2
    assert curve.steepest < 1e-3
    assert curve.suggestion is not None
    assert 3e-6 < curve.suggestion[0] < 1e-3
    assert curve_of(curve.losses).steepest > 5e-3  # the same losses, of vectors that stayed apart


def test_the_test_ends_where_all_images_have_one_vector() -> None:
    phase = build("mathm", **SMALL).recipe.phases[0]
    generator = torch.Generator().manual_seed(0)

    def event(apart: float) -> Any:
        vectors = torch.nn.functional.normalize(torch.ones(8, 4) + apart * torch.randn(8, 4, generator=generator), dim=1)
        return SimpleNamespace(losses={"cross_entropy": 1.0}, step=SimpleNamespace(features=SimpleNamespace(vector=vectors)))

    points, end = _follow([event(apart) for apart in (1.0, 1.0, 0.5, 1e-4, 1.0)], phase, 50, 1e-3, 1.0)
    assert end == "collapsed"
    assert len(points) == 4
    points, end = _follow([event(1.0) for _ in range(7)], phase, 5, 1e-3, 1.0)
    assert end == "last step"
    assert [rate for rate, _, _ in points] == pytest.approx(np.logspace(-3, 0, 5).tolist())
    assert _spread(torch.zeros(5, 0)) == _spread(torch.zeros(5, 3)) == 1.0


def test_a_rate_that_no_parameter_has_is_not_scaled(parts: Dataset) -> None:
    rules = {**SMALL, "phases": [{"optimizer": {"lr": 1e-3}, "parameters": [{"of": "*", "lr": 1e-5}]}]}
    curve = range_test("mathm", parts, steps=10, device="cpu", progress=False, **rules)
    assert curve.rate == 1e-5
    assert curve.settings == {"phases.0.parameters.0.lr": 1e-5}


def test_only_training_images_are_read(parts: Dataset) -> None:
    places: list[int] = []

    def read(position: int) -> Image.Image:
        places.append(position)
        return parts.reader(position)

    range_test("mathm", replace(parts, reader=read), steps=10, device="cpu", progress=False, **SMALL)
    assert places
    assert set(places) <= set(parts.train.index.tolist())
    assert len(parts.validation) > 0


def test_the_loss_is_the_weighted_sum_at_the_end_of_the_phase() -> None:
    weights = {
        "phases.0.weights": {"cross_entropy": {"from": 0.0, "to": 0.5}, "balanced_triplet": {"cross": 1.0, "within": 2.0, "hybrid": 0.0}}
    }
    phase = build("mathm", **SMALL, **weights).recipe.phases[0]
    losses = {"cross_entropy": 3.0, "balanced_triplet.cross": 1.0, "balanced_triplet.within": 10.0, "balanced_triplet.hybrid": 7.0}
    opponents = {"cross_entropy.discriminator": 100.0, "cross_entropy.discriminator.real": 100.0}
    assert weighted({**losses, **opponents}, phase) == pytest.approx(1.5 + 1 + 20)


def test_whole_freezes_stay_and_wrong_ranges_are_named(parts: Dataset) -> None:
    rules = [{"of": "encoder.backbone", "lr": 1e-4, "frozen": True}, {"of": "losses", "frozen": 0}]
    frozen = {**SMALL, "phases": [{"optimizer": {"lr": 1e-3}, "parameters": rules}]}
    assert range_test("mathm", parts, steps=10, device="cpu", progress=False, **frozen).thawed == ()
    with pytest.raises(InputError, match="expected the first below the second"):
        range_test("mathm", parts, low=1.0, high=0.1, **SMALL)
    with pytest.raises(InputError, match="steps"):
        range_test("mathm", parts, steps=3, **SMALL)
    with pytest.raises(InputError, match="no phase of this recipe has steps"):
        range_test("mathm", parts, **{**SMALL, "phases.0.steps": 0})
    with pytest.raises(InputError, match=r"all rates of phases\.0 are 0"):
        range_test("mathm", parts, **{**SMALL, "phases": [{"optimizer": {"lr": 0.0}, "parameters": []}]})


def test_the_first_phase_with_steps_is_tested(parts: Dataset) -> None:
    later = {
        **SMALL,
        "phases": [{"steps": 0, "parameters": []}, {"steps": 7, "weights": {"cross_entropy": 1.0}, "optimizer": {"lr": 2e-3}}],
    }
    curve = range_test("mathm", parts, steps=10, device="cpu", progress=False, **later)
    assert curve.rate == 2e-3
    assert curve.settings == {"phases.1.optimizer.lr": 2e-3}


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    save_curve(curve_of(falling(1e-3)), tmp_path / "rates.png")
    assert Image.open(tmp_path / "rates.png").width > 400
    save_curve(curve_of(np.full(20, 1.0)), tmp_path / "flat.png")
