"""Faults of one process inside a save or a validation, and disks that cannot be written or are full: all end, and nothing is lost."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from tests.processes.launch import run, torchrun

from sbirlib.training import checkpoint

FAULT = "the fault of this test"
SOON = 60.0  # seconds
COMMAND = ("--no-python", "sbirlib")
Process = CompletedProcess[str]


def training(data: Path, out: Path) -> list[str]:
    validate = 'validate={every = 2, metric = "mAP@all"}'
    call = ["train", data / "recipe.toml", "--data", data / "figures", "--split", f"{data / 'splits.json'}:figures", "--out", out]
    return [*map(str, call), "--save-every", "1", "--set", validate, "--set", "phases.0.steps=8"]


def faulty(data: Path, out: Path, rank: int, place: str, number: int, how: str, *more: str) -> Process:
    """A training with a fault, which all processes end with soon."""
    process = torchrun(2, "-m", "tests.processes.faults", str(rank), place, str(number), how, *training(data, out), *more)
    ends_soon(process, out)
    return process


def ends_soon(process: Process, out: Path) -> None:
    """Whether all processes ended within a minute of the last line of the log."""
    log = out / "log.jsonl"
    assert not log.is_file() or time.time() - log.stat().st_mtime < SOON
    assert process.returncode != 0


def is_said_once(process: Process, message: str) -> None:
    """Whether the message stands once above the launcher's report, and ends that report."""
    own, _, report = process.stderr.partition("Failures:")
    assert own.count(message) == 1, process.stderr
    assert "another process has ended" not in own
    root = report.rpartition("Root Cause")[2].strip(" =\n")
    assert message in root.splitlines()[-1], report


def results(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list[Any]]:
    """Tensors of the last checkpoint and of the best weights, and the losses and validations of the log."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    log = [(line["step"], line.get("losses"), line.get("validation")) for line in lines]
    return checkpoint.read(out / "checkpoint.safetensors")[0], checkpoint.read(out / "best.safetensors")[0], log


def goes_on(data: Path, out: Path, undisturbed: Path) -> None:
    """The run is resumed, and ends bit-identical to one that was not disturbed."""
    process = run(2, *COMMAND, *training(data, out), "--resume")
    assert process.returncode == 0, process.stderr
    (*ours, log), (*theirs, other) = results(out), results(undisturbed)
    for own, expected in zip(ours, theirs, strict=True):
        assert own.keys() == expected.keys()
        assert [name for name in expected if not torch.equal(own[name], expected[name])] == []
    assert log == other


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without a fault."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    process = run(2, *COMMAND, *training(data, out))
    assert process.returncode == 0, process.stderr
    return out


ALL = [(rank, place, how) for rank in (0, 1) for place in ("save", "validation", "metrics") for how in ("kill", "raise", "refuse")]
SOME = [(0, "save", "kill"), (1, "validation", "raise")]  # in every test run


@pytest.mark.parametrize(("rank", "place", "how"), [case if case in SOME else pytest.param(*case, marks=pytest.mark.slow) for case in ALL])
def test_a_fault_of_one_process_ends_all_and_costs_nothing(
    data: Path, tmp_path: Path, undisturbed: Path, rank: int, place: str, how: str
) -> None:
    process = faulty(data, tmp_path / "run", rank, place, 5, how)
    if how == "kill":
        assert process.stderr.count("sbirlib: another process has ended without a message") <= 1
        assert process.stderr.strip(" =\n").splitlines()[-1].strip().startswith("traceback : Signal 9 (SIGKILL)"), process.stderr
    else:
        traced = how == "raise" and (rank, place) != (0, "save")  # an error of the file system while a file is written is wrong input
        is_said_once(process, f"OSError: {FAULT}" if traced else FAULT)
    goes_on(data, tmp_path / "run", undisturbed)


def test_a_disk_that_is_full_is_named_before_the_first_step(data: Path, tmp_path: Path) -> None:
    process = faulty(data, tmp_path / "run", 0, "disk", 1, "full")
    is_said_once(process, "has room for 0.00 GB, and the checkpoints of this run need about")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["/sys/run", "FILE/run"])
def test_a_folder_that_cannot_be_written_is_named_before_the_first_step(data: Path, folder: str) -> None:
    process = torchrun(2, *COMMAND, *training(data, Path(folder.replace("FILE", str(data / "recipe.toml")))))
    assert process.returncode != 0
    is_said_once(process, "nothing can be written in")
    assert "on validation" not in process.stderr


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(data: Path, tmp_path: Path, undisturbed: Path) -> None:
    out = tmp_path / "run"
    faulty(data, out, 0, "save", 4, "raise")
    file = out / "checkpoint.safetensors"
    before = file.read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2,) * 2)

    process = torchrun(2, *COMMAND, *training(data, out), "--resume", preexec_fn=limit)
    ends_soon(process, out)
    is_said_once(process, "could not be written")
    assert file.read_bytes() == before
    goes_on(data, out, undisturbed)
