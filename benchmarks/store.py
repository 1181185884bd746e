"""Finished runs, one small JSON file each, committed: tables are rendered from them and never typed."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sbirlib.files import atomic_write

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("sbirlib", "torch", "torchvision", "timm", "numpy")


def place(experiment: str, row: str, seed: int) -> Path:
    return RESULTS / experiment / f"{row.replace(' ', '-')}-{seed}.json"


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Whole or not at all; numbers of queries are rounded to what a mean of them can show."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(result, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")


def read(experiment: str) -> list[dict[str, Any]]:
    """Every finished or failed run of an experiment."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / experiment).glob("*.json"))]


def circumstances(device: str) -> dict[str, Any]:
    """Where and with what a run was made."""
    return {
        "device": device,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
