"""Paired comparison and its bootstrap: exact cases, coverage, and a literal transcription of the resampling."""

import numpy as np
import pytest

from sbirlib.retrieval.bootstrap import resampled
from sbirlib.retrieval.paired import paired

CLASSES = np.repeat(np.arange(8), 10)


def runs(shift: float, noise: float, *, seeds: int = 3, seed: int = 0) -> dict[int, list[float]]:
    random = np.random.default_rng(seed)
    return {s: (0.4 + shift + noise * random.standard_normal(len(CLASSES))).tolist() for s in range(seeds)}


def test_a_constant_difference_is_significant() -> None:
    base = runs(0, 0.1)
    difference = paired({s: [v + 0.05 for v in values] for s, values in base.items()}, base, CLASSES.tolist())
    assert difference.mean == pytest.approx(0.05)
    assert difference.low == pytest.approx(0.05)
    assert difference.high == pytest.approx(0.05)
    assert difference.significant
    assert difference.detectable == pytest.approx(0, abs=1e-9)


def test_a_difference_by_chance_is_not_significant() -> None:
    difference = paired(runs(0, 0.1, seed=1), runs(0, 0.1, seed=2), CLASSES.tolist())
    assert difference.low < 0 < difference.high
    assert not difference.significant
    assert difference.detectable > abs(difference.mean)


def test_the_interval_has_its_nominal_coverage() -> None:
    """Queries of a class share an effect, and so do queries of a seed: an interval over queries alone would be too narrow."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(60):
        of_class, of_seed = 0.05 * random.standard_normal(8)[CLASSES], 0.02 * random.standard_normal((5, 1))
        values = 0.03 + of_class + of_seed + 0.1 * random.standard_normal((5, len(CLASSES)))
        low, high = np.percentile(resampled(values, CLASSES, draws=300).queries, [2.5, 97.5])
        covered += bool(low < 0.03 < high)
    assert covered >= 50


def literal(values: np.ndarray, category: np.ndarray, draws: int) -> dict[str, np.ndarray]:
    """Seeds, then classes, then queries of the class, one resample after another; the means over queries and over classes."""
    random, means, class_means = np.random.default_rng(1), [], []
    for _ in range(draws):
        of_seed = values[random.integers(len(values), size=len(values))].mean(0)
        classes = random.choice(np.unique(category), size=len(np.unique(category)))
        own = [of_seed[category == c] for c in classes]
        draw = [random.choice(v, size=len(v)) for v in own]
        means.append(np.concatenate(draw).mean())
        class_means.append(np.mean([v.mean() for v in draw]))
    return {"queries": np.array(means), "classes": np.array(class_means)}


@pytest.mark.parametrize("over", ["queries", "classes"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_resample_is_of_seeds_classes_and_queries(seeds: int, over: str) -> None:
    category = np.repeat([0, 1, 2, 3], [3, 30, 8, 15])  # a class in a resample twice counts twice, with all its queries
    values = np.random.default_rng(0).exponential(size=(seeds, len(category))) * (1 + category)
    means, expected = getattr(resampled(values, category, draws=20_000), over), literal(values, category, 4000)[over]
    assert means.shape == (20_000,)
    assert means.mean() == pytest.approx(expected.mean(), rel=0.02)
    assert means.std() == pytest.approx(expected.std(), rel=0.06)
    assert np.percentile(means, [2.5, 97.5]) == pytest.approx(np.percentile(expected, [2.5, 97.5]), rel=0.04)


def test_the_two_means_can_disagree() -> None:
    """A gain on the class with most queries and a loss on the other nine: each mean has its own sign."""
    category = np.repeat(np.arange(10), [400] + [10] * 9)
    base = np.random.default_rng(0).uniform(0.3, 0.5, size=len(category))
    ours = base + np.where(category == 0, 0.1, -0.1)
    queries, classes = (paired({0: ours.tolist()}, {0: base.tolist()}, category.tolist(), over=over) for over in ("queries", "classes"))
    assert queries.mean == pytest.approx((400 * 0.1 - 90 * 0.1) / 490)
    assert classes.mean == pytest.approx(-0.08)
    assert classes.low == pytest.approx(-0.1)
    assert classes.high < 0


def test_only_common_seeds_are_compared() -> None:
    base = runs(0, 0.1, seeds=3)
    assert paired({7: base[0], 1: base[1]}, base, CLASSES.tolist()).seeds == 1
    with pytest.raises(ValueError, match="no seed in common"):
        paired({9: base[0]}, base, CLASSES.tolist())
    with pytest.raises(ValueError, match="80 values for 3 queries"):
        paired(base, base, [0, 1, 2])
