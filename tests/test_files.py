"""Atomic writes: failures, killed processes, and permissions."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sbirlib.errors import InputError
from sbirlib.files import atomic_write


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with atomic_write(target) as partial:
        partial.write_text("one")
    with pytest.raises(TypeError), atomic_write(target) as partial:
        partial.write_text(2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="untouched"), atomic_write(target) as partial:
        raise OSError(28, "No space left on device")
    assert [(p.name, p.read_text()) for p in target.parent.iterdir()] == [("file", "one")]


def test_what_a_killed_process_left_is_swept_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for left in (f".file.{dead}.partial", f".file.{os.getppid()}.partial", f".other.{dead}.partial"):
        (tmp_path / left).mkdir()
        (tmp_path / left / ".tmpHalf").write_text("half")
    with atomic_write(tmp_path / "file") as partial:
        partial.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {"file", f".file.{os.getppid()}.partial", f".other.{dead}.partial"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_and_its_folders_have_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    target = tmp_path / "deep" / "model.safetensors"
    before = os.umask(umask)
    try:
        with atomic_write(target) as partial:
            save_file({"weight": torch.zeros(2)}, partial)  # which writes with mode 0600
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o777 & ~umask
    assert [p.name for p in target.parent.iterdir()] == ["model.safetensors"]
