"""Cases and their outcomes; an entry of the corpus is a case that failed once."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.operations import apply
from tests.fuzz.operations.raw import Operation
from tests.fuzz.targets.target import Target

CORPUS = Path(__file__).parent / "corpus"
DIGEST = re.compile(rb'"xxh3\\?"\s*:')
INPUT_ERROR, SAME, OTHER, FAILURE = "InputError", "same", "other", "failure"


@dataclass(frozen=True)
class Case:
    """A target and the operations on its files before it reads them; `number` is the case's place in its run, -1 where it has none."""

    target: str
    operations: list[Operation]
    number: int = -1

    def entry(self) -> str:
        """The case as an entry of the corpus."""
        return json.dumps({"target": self.target, "operations": self.operations})

    def save(self) -> str:
        """Write the case into the corpus; return the name of its file."""
        entry = self.entry()
        name = f"{self.target}-{hashlib.sha256(entry.encode()).hexdigest()[:8]}.json"
        (CORPUS / name).write_text(entry + "\n", encoding="utf-8")
        return name


@dataclass
class Outcome:
    """The verdict on a case, its time and memory; of a failure the exception, the innermost frame inside sbirlib, and the message."""

    verdict: str
    seconds: float = 0.0
    memory: float = 0.0  # MiB above the child's level at the start of the case
    exception: str = ""
    frame: str = ""
    message: str = ""
    case: Case = field(default_factory=lambda: Case("", []))

    @property
    def group(self) -> tuple[str, str]:
        """Failures of one exception in one place are one fault."""
        return self.exception, self.frame


def drawn(target: Target, pristine: Path, seed: int, number: int) -> Case:
    """The case of this number: the same for the same seed."""
    random = Random(f"{seed}/{target.name}/{number}")
    return Case(target.name, apply.draw(random, pristine, target.forms, digests=has_digests(target, pristine)), number)


def has_digests(target: Target, folder: Path) -> bool:
    """Whether the files that are altered carry digests, which can be written anew."""
    return digests(target, folder) > 0


def digests(target: Target, folder: Path) -> int:
    """The number of digests in the files that are altered."""
    files = (path for pattern in target.forms for path in folder.glob(pattern) if path.is_file() and path.stat().st_size < 2**27)
    return sum(len(DIGEST.findall(path.read_bytes())) for path in files)


def corpus() -> dict[str, Case]:
    """The cases that failed once, by the names of their files."""
    entries = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(CORPUS.glob("*.json"))}
    return {name: Case(entry["target"], entry["operations"]) for name, entry in entries.items()}
