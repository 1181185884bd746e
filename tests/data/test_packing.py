"""Packing: killed and resumed, on a full disk, and of files that change meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import folder
from sbirlib.data.packed import pack, writing
from sbirlib.data.packed.layout import HEADER
from sbirlib.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of 232 noisy photos and sketches, which no buffer holds."""
    random = np.random.default_rng(0)
    for modality, count in (("sketch", 32), ("photo", 200)):
        place = tmp_path / "data" / modality / "ant"
        place.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(random.integers(0, 256, (30, 60, 3), dtype=np.uint8)).save(place / f"{i}.jpg")
    return tmp_path / "data"


PROGRAM = """
import sys, time
from sbirlib.data import packed
from sbirlib.data.folder import folder
from sbirlib.data.packed import shrinking
plain = shrinking.Shrinking.__call__
def slow(self, image, modality):
    time.sleep(0.01)
    return plain(self, image, modality)
shrinking.Shrinking.__call__ = slow
packed.pack(folder(sys.argv[1]), sys.argv[2], workers=1)
"""


def test_a_packing_that_was_killed_goes_on_and_ends_alike(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(folder(root), tmp_path / "expected.pack", progress=False)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(root), str(tmp_path / "x.pack")])
    work = tmp_path / ".x.pack.packing"
    _wait(lambda: (work / "data").exists() and (work / "data").stat().st_size > HEADER + 600_000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "x.pack").exists()
    kept = (work / "entries").stat().st_size // writing.ENTRY.itemsize
    reads: list[int] = []
    read = Dataset.read

    def counted(data: Dataset, i: int) -> Image.Image:
        reads.append(i)
        return read(data, i)

    monkeypatch.setattr(Dataset, "read", counted)
    pack(folder(root), tmp_path / "x.pack", progress=False)
    assert (tmp_path / "x.pack").read_bytes() == (tmp_path / "expected.pack").read_bytes()
    assert not work.exists()
    assert kept > 100
    assert len(reads) == 232 - kept


def _wait(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


@pytest.mark.parametrize("damage", ["data", "entries", "short", "changed"])
def test_what_was_kept_of_a_killed_packing_is_checked(damage: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(folder(root), tmp_path / "expected.pack", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            pack(folder(root), tmp_path / "x.pack", progress=False)
    work = tmp_path / ".x.pack.packing"
    if damage == "changed":
        (root / "photo/ant/0.jpg").touch()
        (tmp_path / "expected.pack").unlink()
        pack(folder(root), tmp_path / "expected.pack", progress=False)
    elif damage == "short":
        os.truncate(work / "data", HEADER + 30_000)
    else:
        content = bytearray((work / damage).read_bytes())
        content[len(content) // 3] ^= 1
        (work / damage).write_bytes(content)
    pack(folder(root), tmp_path / "x.pack", progress=False)
    assert (tmp_path / "x.pack").read_bytes() == (tmp_path / "expected.pack").read_bytes()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_is_said_and_what_was_packed_is_kept(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writing.Building, "finish", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(InputError, match=r"No space left on device\): make room and say the same again, which goes on from here"):
            pack(folder(root), tmp_path / "x.pack", progress=False)
    monkeypatch.setattr(Dataset, "read", None)  # every image is there
    assert len(pack(folder(root), tmp_path / "x.pack", progress=False)) == 232
