import platform
import subprocess
import sys

import pytest

from sbirlib import build, cli
from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Encoder
from sbirlib.memory import keep_freed_memory

FAULTS = """
import resource, sys
from sbirlib.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):
    bytearray(64 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keeps memory with glibc alone")
def test_a_block_that_was_freed_is_taken_again_without_new_pages() -> None:
    assert faults("keep") < faults("leave")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory.__wrapped__()


def test_a_library_call_leaves_malloc_alone(dataset: Dataset, encoder: Encoder) -> None:
    keep_freed_memory.cache_clear()
    pipeline = build(
        encoder=encoder,
        losses=["cross_entropy"],
        sampler={"name": "shuffled", "size": 16},
        transform={"size": 32},
        phases=[{"steps": 1, "optimizer": {"name": "adam", "lr": 1e-3}}],
    )
    pipeline.fit(dataset, progress=False, tensorboard=False)
    pipeline.encode(dataset, split="train", progress=False)
    assert keep_freed_memory.cache_info().misses == 0


def test_the_command_line_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: calls.append("memory"))
    monkeypatch.setattr(cli, "app", lambda: calls.append("command"))
    cli.main()
    assert calls == ["memory", "command"]
