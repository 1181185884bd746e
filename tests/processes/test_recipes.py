"""Several processes equal one: losses, gradients and weights of every recipe on the same batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes.launch import run

from sbirlib import list_parts
from sbirlib.recipe_file import read

SOME = ("acnet", "hard-transfer-crossgrad", "mathm", "vtd")  # in every test run; `make test-slow` has all
CACHED = ("acnet+cached", "generative+cached", "hard-transfer-crossgrad+cached")  # gradient caching, accumulation and clipping at once
TRAINED = [name for name in list_parts("recipe") if read(name).get("phases") != []]  # clip, for one, has nothing to train
GROUPS = {"some": ((*SOME, "mathm+cached"), "4"), "all": ((*TRAINED, *CACHED), "10")}  # recipes, and steps of a phase
Result = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], dict[str, Result]]:
    """Results of recipes by name, trained once for each number of processes."""
    folder, known = tmp_path_factory.mktemp("results"), dict[tuple[str, int], dict[str, Result]]()

    def of(which: str, count: int) -> dict[str, Result]:
        if (which, count) not in known:
            (names, steps), out = GROUPS[which], folder / f"{which}-{count}"
            out.mkdir()
            process = run(count, "-m", "tests.processes.recipes", str(out), steps, *names)
            assert process.returncode == 0, process.stderr[-5000:]
            known[which, count] = {name: torch.load(out / f"{name}.pt", weights_only=True) for name in names}
        return known[which, count]

    return of


def check_equal(one: Result, several: Result) -> None:
    assert len(one["losses"]) == len(several["losses"]) > 3
    for ours, theirs in zip(one["losses"], several["losses"], strict=True):
        assert theirs == pytest.approx(ours, rel=1e-6, abs=1e-6)
    torch.testing.assert_close(several["gradients"], one["gradients"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(several["weights"], one["weights"], rtol=1e-4, atol=1e-4)
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in one["gradients"].values())


@pytest.mark.parametrize("recipe", SOME)
def test_two_processes_equal_one(results: Callable[[str, int], dict[str, Result]], recipe: str) -> None:
    check_equal(results("some", 1)[recipe], results("some", 2)[recipe])


def test_caching_accumulation_and_clipping_together_equal_one_process(results: Callable[[str, int], dict[str, Result]]) -> None:
    check_equal(*(results("some", count)["mathm+cached"] for count in (1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("recipe", [*TRAINED, *CACHED])
def test_several_processes_equal_one_for_every_recipe(
    results: Callable[[str, int], dict[str, Result]], recipe: str, count: int, tmp_path: Path
) -> None:
    check_equal(results("all", 1)[recipe], results("all", count)[recipe])
