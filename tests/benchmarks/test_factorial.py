"""The composition study: its design, and effects that are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.experiments import definition, factorial, runs
from sbirlib import build


def test_no_main_effect_or_pair_is_mixed_with_another_or_with_a_fold() -> None:
    design = factorial.signs()
    _, columns = factorial.contrasts(design)
    terms = np.column_stack([np.eye(4)[factorial.blocks(design)], columns])
    products = terms.T @ terms
    assert np.array_equal(products, np.diag(products.diagonal()))
    assert len(np.unique(design, axis=0)) == 64


def test_every_run_is_made_once_and_is_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBIRLIB_DATA", "data")
    experiment = definition.read("sbirlib-factorial")
    todo = runs.pending(replace(experiment, name="nowhere"), list(experiment.rows), range(4), retry=False)
    assert sorted(row.name for _, row in todo) == sorted({row.name for row in experiment.rows})
    for row in experiment.rows[::9]:
        recipe = build(row.recipe, **definition.settings(experiment, row)).recipe
        losses = {"norm_softmax" if "normsoftmax" in row.name else "cross_entropy"}
        losses |= {
            loss
            for part, loss in (("triplets", "balanced_triplet"), ("contrast", "supcon"), ("distillation", "distillation"))
            if part in row.name
        }
        assert set(recipe.losses) == losses == set(recipe.phases[0].weights)
        assert ("ema" in row.name) == (recipe.ema is not None)
        assert ("distillation" in row.name or "cse" in row.name) == (recipe.phases[0].cache is None)


def stored(change: Any) -> dict[str, dict[int, dict[str, Any]]]:
    """Runs whose metric is the sum of a class's own value, `change` of the signs, and noise."""
    random, result = np.random.default_rng(0), {}
    design = factorial.signs()
    classes = random.normal(0.4, 0.1, (4, 12))
    for row, signs, fold in zip(factorial.rows(), design, factorial.blocks(design), strict=True):
        values = np.repeat(classes[fold], 5) + change(signs) + random.normal(0, 0.01, 60)
        result[row.name] = {int(fold): {"queries": {"mAP@all": values.tolist(), "category": np.repeat(np.arange(12), 5).tolist()}}}
    return result


def test_effects_of_parts_and_pairs_are_found_and_no_others() -> None:
    experiment = definition.read("sbirlib-factorial")
    by_name = factorial.effects(experiment, stored(lambda s: 0.05 * (s[0] > 0) - 0.03 * (s[3] > 0) + 0.02 * s[1] * s[2]))
    assert by_name["cse"].mean == pytest.approx(0.05, abs=0.003)
    assert by_name["contrast"].mean == pytest.approx(-0.03, abs=0.003)
    assert by_name["triplets x normsoftmax"].mean == pytest.approx(0.04, abs=0.003)
    clear = {name for name, each in by_name.items() if each.significant}
    assert {"cse", "contrast", "triplets x normsoftmax"} <= clear
    assert len(clear) <= 6  # of 25 others at 5 %
    lines = factorial.section(experiment, stored(lambda s: 0.05 * (s[0] > 0)))
    assert lines[2].startswith("| cse | **+0.0")


def test_a_run_that_is_missing_leaves_the_table_out() -> None:
    experiment = definition.read("sbirlib-factorial")
    some = stored(lambda s: 0.0)
    some[experiment.rows[3].name] = {}
    assert factorial.effects(experiment, some) == {}
    assert factorial.section(experiment, some) == ["63 of 64 runs are there; effects are shown when all are."]
