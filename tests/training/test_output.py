"""The folder of a run, and shortages: said before the first step, or with the way out."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tests.training.test_run import small_pipeline
from torch import Tensor

from sbirlib import sealed
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.files import held
from sbirlib.interfaces import Encoder, Loss, Step
from sbirlib.training import checkpoint
from sbirlib.training.log import Log
from sbirlib.training.output import save_last
from sbirlib.training.shortage import OutOfMemory, shortage
from sbirlib.training.steps import StepEvent

Fresh = Callable[[], Encoder]


def refused(fresh: Fresh, dataset: Dataset, out: Path, message: str) -> None:
    steps: list[StepEvent] = []
    with pytest.raises(InputError, match=message):
        small_pipeline(fresh(), 2).fit(dataset, out=out, progress=False, on_step=steps.append)
    assert steps == [], "it is said before the first step"


def test_a_folder_that_another_run_holds_is_refused(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    with held(tmp_path) as ours:
        assert ours
        refused(fresh, dataset, tmp_path, "another run writes into")
    small_pipeline(fresh(), 2).fit(dataset, out=tmp_path, progress=False)


def test_a_folder_that_cannot_be_written_is_refused(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(fresh, dataset, tmp_path / "file" / "run", "nothing can be written in .*: choose another out=FOLDER")


def test_a_disk_without_room_is_refused(fresh: Fresh, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000))
    refused(fresh, dataset, tmp_path / "run", "has room for 0.00 GB, and the checkpoints of this run need about")


def test_the_last_checkpoints_stay(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    small_pipeline(fresh(), 8).fit(dataset, out=tmp_path, save_every=2, keep=2, progress=False)
    assert sorted(f.name for f in tmp_path.glob("*.safetensors")) == [
        "checkpoint-00000006.safetensors",
        "checkpoint-00000008.safetensors",
        "checkpoint.safetensors",
    ]
    about = checkpoint.read_model(tmp_path / "checkpoint-00000006.safetensors")[1]
    assert about.training is not None
    assert about.training.position.step == 6


def test_a_run_set_back_keeps_its_new_checkpoints(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path, "save_every": 1, "keep": 3, "progress": False}
    small_pipeline(fresh(), 9).fit(dataset, **options)
    shutil.copyfile(tmp_path / "checkpoint-00000007.safetensors", tmp_path / "checkpoint.safetensors")

    for step in (8, 9):  # as of a longer run
        (tmp_path / f"checkpoint-{step:08d}.safetensors").rename(tmp_path / f"checkpoint-{90 + step:08d}.safetensors")
    small_pipeline(fresh(), 9).fit(dataset, resume=True, **options)
    assert {"checkpoint-00000008.safetensors", "checkpoint-00000009.safetensors"} <= {file.name for file in tmp_path.iterdir()}


def test_a_copy_that_the_disk_has_no_room_for_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def no_room(_: Path, copy: Path) -> None:
        copy.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(shutil, "copyfile", no_room)
    with pytest.raises(InputError, match=r"checkpoint-00000003.safetensors' could not be written \(No space left on device\)"):
        save_last(tmp_path, lambda path: sealed.write(path, {}, {}), step=3, keep=2)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]


class FullBoard:
    """TensorBoard's writer on a full disk, whose thread's error every later call raises."""

    def add_scalar(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    close = add_scalar


def write_log(folder: Path, full: str, error: type[BaseException] | None = None) -> None:
    """Two records of a log, with a disk that is full after the first for its file, for TensorBoard, or only as it is closed."""
    with Log(folder, total=3, show=False, tensorboard=False) as log:
        log.record(1, value=1.0)
        if full == "file":
            log.file = open("/dev/full", "a", encoding="utf-8")
        elif full == "board":
            log.board = FullBoard()
        log.record(2, value=1.0)
        log.board = FullBoard()
        if error is not None:
            raise error


@pytest.mark.parametrize(("full", "lines"), [("file", 1), ("board", 2), ("close", 2)])
def test_a_log_on_a_full_disk_is_told_with_the_way_out(tmp_path: Path, full: str, lines: int) -> None:
    with pytest.raises(InputError, match=r"the log in .* could not be written \(No space left on device\).*go on .* \(--resume\)"):
        write_log(tmp_path, full)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == lines


def test_a_log_on_a_full_disk_hides_no_other_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_log(tmp_path, "close", KeyboardInterrupt)


def test_without_tensorboard_the_log_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level("INFO"), Log(tmp_path, total=1, show=False) as log:
        log.record(1, value=1.0)
    assert "pip install 'sbirlib[train]'" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


def test_minutes_save_too(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    places: list[bool] = []

    def note(event: StepEvent) -> None:
        places.append((tmp_path / "checkpoint.safetensors").is_file())

    small_pipeline(fresh(), 3).fit(dataset, out=tmp_path, save_minutes=1e-9, progress=False, on_step=note)
    assert places == [False, True, True]


class Greedy(Loss):
    """Runs out of memory at a step, as a GPU does."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, step: Step) -> Tensor:
        if step.progress >= 0.5:
            raise self.error
        return step.features.embedding.square().mean()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 16 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800000000000 bytes. Error code 12"),
        MemoryError(),
    ],
)
def test_a_lack_of_memory_names_the_setting_and_its_value(fresh: Fresh, dataset: Dataset, error: BaseException) -> None:
    phases = [{"steps": 1}, {"steps": 4}]
    with pytest.raises(
        OutOfMemory, match=r"no memory left for a step of 12 images .* Set phases\.1\.chunk = [24]: losses still see all"
    ) as raised:
        small_pipeline(fresh(), losses={"greedy": Greedy(error)}, miner=None, phases=phases).fit(dataset, progress=False)
    assert raised.value.__cause__ is error


def test_another_error_is_let_be(fresh: Fresh, dataset: Dataset) -> None:
    with pytest.raises(RuntimeError, match="something else"):
        small_pipeline(fresh(), losses={"greedy": Greedy(RuntimeError("something else"))}, miner=None).fit(dataset, progress=False)


@pytest.mark.parametrize(
    ("images", "chunk", "gigabytes", "fewer"), [(128, None, 0.001, 64), (128, 64, 0.001, 32), (128, None, 1e6, 2), (3, None, 1.0, 2)]
)
def test_the_more_is_asked_for_the_smaller_the_chunk(
    images: int, chunk: int | None, gigabytes: float, fewer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sbirlib.training.shortage._memory", lambda _: (8e9, 16e9))
    error = RuntimeError(f"you tried to allocate {int(gigabytes * 1e9)} bytes")
    fault: Any = shortage(error, phase=0, images=images, chunk=chunk, device=torch.device("cpu"))
    assert f"phases.0.chunk = {fewer}:" in str(fault)
