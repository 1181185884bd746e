"""Weights divided among processes: the same training, in half the memory for them, and checkpoints that serve any number of processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes.launch import run

STOP = 3  # the checkpoint is that of the step before
JOBS: dict[str, Any] = {
    "whole": {"shard": False},
    "divided": {"shard": True},
    "whole-stopped": {"shard": False, "stop": STOP},
    "divided-stopped": {"shard": True, "stop": STOP},
    "divided-divided": {"shard": True, "resume": "divided-stopped"},
    "divided-whole": {"shard": False, "resume": "divided-stopped"},
    "whole-divided": {"shard": True, "resume": "whole-stopped"},
}
ALONE = {"divided-alone": {"shard": False, "resume": "divided-stopped"}}
FROZEN = [{"of": "encoder.backbone.layer1", "frozen": 2}]
CHANGES: dict[str, dict[str, Any]] = {
    "thawed": {"phases.0.parameters": FROZEN, "phases.0.optimizer": {"name": "sgd", "lr": 1e-2}, "phases.0.clip": 0.1},
    "cached": {"phases.0.chunk": 3, "phases.0.accumulate": 2, "phases.0.optimizer": {"name": "adamw", "lr": 1e-3}},
    "validated": {"validate": {"every": 2}, "sampler": {"categories": 2}, "phases.0.batch_norm": "local"},
    "halved": {"precision": "bfloat16"},
}


def results(folder: Path, jobs: dict[str, Any], count: int = 2) -> dict[str, Any]:
    process = run(count, "-m", "tests.processes.sharding", str(folder), json.dumps(jobs))
    assert process.returncode == 0, process.stderr[-3000:]
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in jobs}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """In float64: one process adds in another order than two, and Adam makes a step of what rounding leaves of a zero gradient."""
    folder = tmp_path_factory.mktemp("sharding")
    jobs, alone = ({name: {**job, "recipe": "mathm-baseline+double"} for name, job in jobs.items()} for jobs in (JOBS, ALONE))
    return results(folder, jobs) | results(folder, alone, count=1)


def check_equal(one: Any, other: Any) -> None:
    """Losses alike, and weights, of which Adam moves those without a gradient by rounding."""
    assert other["losses"]
    for step, losses in other["losses"].items():
        assert losses == pytest.approx(one["losses"][step], abs=1e-5)
    torch.testing.assert_close(other["weights"], one["weights"], rtol=1e-3, atol=1e-3)


def test_divided_weights_train_as_whole_ones_in_half_the_memory(trained: dict[str, Any]) -> None:
    whole, divided = trained["whole"], trained["divided"]
    check_equal(whole, divided)
    torch.testing.assert_close(divided["gradients"], whole["gradients"], rtol=1e-5, atol=1e-5)
    assert divided["memory"] < 0.55 * whole["memory"]


def test_a_checkpoint_of_divided_weights_serves_any_number_of_processes(trained: dict[str, Any]) -> None:
    for name in ("divided-whole", "divided-alone", "whole-divided"):
        assert sorted(trained[name]["losses"]) == [3, 4, 5, 6]
        check_equal(trained["divided"], trained[name])
    again, divided = trained["divided-divided"]["weights"], trained["divided"]["weights"]
    assert [name for name in divided if not torch.equal(again[name], divided[name])] == [], "bit-identical"


@pytest.mark.slow
def test_the_command_line_divides_and_goes_on_with_one_process(data: Path, tmp_path: Path) -> None:
    call = ["train", str(data / "recipe.toml"), "--data", str(data / "figures"), "--out", str(tmp_path / "run")]
    alone = ("-c", "from sbirlib.cli import main; main()", *call)
    refused = run(1, *alone, "--shard")
    assert refused.returncode == 2
    assert "cannot here: there is one process: start several with torchrun" in refused.stderr
    assert refused.stdout.count("\n") == 1, "the dataset's description alone"
    divided = run(2, "--no-python", "sbirlib", *call, "--shard")
    assert divided.returncode == 0, divided.stderr
    longer = run(1, *alone, "--resume", "--set", "phases.0.steps=8")
    assert longer.returncode == 0, longer.stderr


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_divided_weights_go_with_other_settings(tmp_path: Path, change: str) -> None:
    jobs = {name: {"shard": name == "divided", "changes": CHANGES[change]} for name in ("whole", "divided")}
    check_equal(*results(tmp_path, jobs).values())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["acnet", "hard-transfer-crossgrad", "mathm", "vtd"])
def test_divided_weights_go_with_other_recipes(tmp_path: Path, recipe: str) -> None:
    """Adversaries in turn, images encoded again, and an encoder that acts inside its backbone; rounding would grow from step to step."""
    jobs = {name: {"shard": name == "divided", "recipe": f"{recipe}+double"} for name in ("whole", "divided")}
    check_equal(*results(tmp_path, jobs).values())
