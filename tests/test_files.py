import os
import subprocess
import sys
from pathlib import Path

import pytest

from sbirlib.errors import InputError
from sbirlib.files import whole_file


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with whole_file(target) as partial:
        partial.write_text("one")
    with pytest.raises(TypeError), whole_file(target) as partial:
        partial.write_text(2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="untouched"), whole_file(target) as partial:
        raise OSError(28, "No space left on device")
    assert [(p.name, p.read_text()) for p in target.parent.iterdir()] == [("file", "one")]


def test_what_a_killed_process_left_is_swept_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for left in (f".file.{dead}.partial", f".file.{os.getppid()}.partial", f".other.{dead}.partial"):
        (tmp_path / left).mkdir()
        (tmp_path / left / ".tmpHalf").write_text("half")
    with whole_file(tmp_path / "file") as partial:
        partial.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {"file", f".file.{os.getppid()}.partial", f".other.{dead}.partial"}
