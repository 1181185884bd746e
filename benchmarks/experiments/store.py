"""The results store: one JSONL file an experiment, one run a line, sorted by row and seed.

The files are committed, and docs/results.md is rendered from them. Each line holds the digest of its own content.
"""

from __future__ import annotations

import fcntl
import json
import platform
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from benchmarks.experiments.folders import FOLDERS
from sbirlib.documents import KEY, Count, Name, check_digest, read_json, read_text, with_digest
from sbirlib.errors import InputError
from sbirlib.files import atomic_write

PACKAGES = ("sbirlib", "torch", "torchvision", "timm", "numpy")


class Run(BaseModel):
    """A run as it is stored: its row and seed, and its result, or the error in which it ended."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    experiment: Name
    row: Name
    seed: Count
    metrics: dict[str, float] = {}
    error: str = ""


SCHEMA = TypeAdapter(Run)


def path_of(experiment: str) -> Path:
    """Path of the JSONL file of an experiment."""
    return FOLDERS.results / f"{experiment}.jsonl"


def read(experiment: str) -> list[dict[str, Any]]:
    """Finished and failed runs of an experiment, sorted by row and seed; InputError for a line that is not a run."""
    path = path_of(experiment)
    if not path.is_file():
        return []
    runs = [_parse(line, f"{path}, line {number}") for number, line in enumerate(read_text(path).splitlines(), 1)]
    if twice := [key for key, count in Counter(map(_key, runs)).items() if count > 1]:
        raise InputError(f"{path} has the run of row and seed {twice[0]} twice: restore the file from version control")
    return runs


def write(result: Mapping[str, Any]) -> None:
    """Add a run to the file of its experiment, in place of an earlier run with the same row and seed.

    The whole file is rewritten atomically, under a lock: without it, the later of two runs that finish at the same moment would drop the
    line of the other.
    """
    path = path_of(result["experiment"])
    with _lock():
        runs = {_key(run): run for run in read(result["experiment"])} | {_key(result): result}
        with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(with_digest(runs[key]), separators=(",", ":")) + "\n" for key in sorted(runs))


def environment(device: str) -> dict[str, Any]:
    """Device, Python, package versions and commit of a run."""
    return {
        "device": device,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _key(run: Mapping[str, Any]) -> tuple[str, int]:
    return run["row"], run["seed"]


def _parse(line: str, place: str) -> dict[str, Any]:
    """A run, held to its schema and its digest, which the runs of earlier versions lack."""
    try:
        read_json(line, SCHEMA, place)
        content: dict[str, Any] = json.loads(line)
        check_digest(content, place)
    except (InputError, ValueError) as error:
        raise InputError(
            f"{place} is not a run (a JSON object with row and seed; {error}): restore the file from version control"
        ) from error
    return {name: value for name, value in content.items() if name != KEY}


@contextmanager
def _lock() -> Iterator[None]:
    """Exclusive lock on the store, released when the block or the process ends."""
    FOLDERS.results.mkdir(parents=True, exist_ok=True)
    with open(FOLDERS.results / ".lock", "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _git(*arguments: str) -> str:
    process = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return process.stdout.strip()
