"""The parent of the fuzzer: it sends cases to children, watches their time, and confirms and minimises failures."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.fuzz import worker
from tests.fuzz.case import FAILURE, SAME, Case, Outcome, drawn
from tests.fuzz.targets.all import TARGETS

os.environ.setdefault("OMP_NUM_THREADS", "1")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.fuzz.worker"])  # which imports all and computes nothing: a fork of threads that computed may deadlock
PREPARATION = 120.0  # seconds
ROOM = 2**32  # bytes that must be free in memory for files to lie there
GRACE = 2.0  # seconds after which a child is killed that has not answered by itself
CONFIRMED = 3  # failures of one fault that are run again, alone; the rest is counted as it is


class BrokenTarget(Exception):
    """The unaltered files of a target are not read as they should; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Child:
    """A process that answers cases of one target."""

    def __init__(self, target: str, folder: Path) -> None:
        self.folder = folder
        self.connection, theirs = FORKS.Pipe()
        self.process = FORKS.Process(target=worker.serve, args=(theirs, target, folder), daemon=True)
        self.process.start()
        theirs.close()
        self.first = self._receive(PREPARATION)
        if self.first.verdict != SAME:
            self.stop()
            raise BrokenTarget(replace(self.first, message=f"the unaltered files fail: {self.first.message}", case=Case(target, [])))

    def run(self, case: Case) -> Outcome:
        """The outcome of a case; a child that hangs or dies is none any more."""
        self.connection.send(case)
        return replace(self._receive(worker.SECONDS + GRACE), case=case)

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def _receive(self, seconds: float) -> Outcome:
        try:
            if self.connection.poll(seconds):
                outcome: Outcome = self.connection.recv()
                return outcome
            fault = "hang"
            self.process.kill()
            self.process.join()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            fault = signal.Signals(-code).name if code < 0 else f"exit {code}"
        trace = (self.folder / "trace").read_text(encoding="utf-8", errors="replace") if (self.folder / "trace").is_file() else ""
        return Outcome(FAILURE, seconds, exception=fault, frame=worker.innermost(trace), message=trace[:200])

    def stop(self) -> None:
        self.connection.close()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, in memory where there is room for it: a case writes its files anew, and the disk would be its slowest part."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM
    with tempfile.TemporaryDirectory(prefix="sbirlib-fuzz-", dir=memory if roomy else None) as folder:
        yield Path(folder)


@dataclass
class Tally:
    """The outcomes of one target."""

    target: str
    cases: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    memory: float = 0.0
    failures: list[Outcome] = field(default_factory=list)

    def count(self, outcome: Outcome) -> None:
        self.cases += 1
        self.verdicts[outcome.verdict] += 1
        self.slowest, self.memory = max(self.slowest, outcome.seconds), max(self.memory, outcome.memory)
        if outcome.verdict == FAILURE:
            self.failures.append(outcome)


def fuzz(target: str, folder: Path, *, cases: int, seed: int, minimise: bool = True) -> Tally:
    """The outcomes of so many cases of a target, drawn by the seed; its files are made in the folder."""
    tally = Tally(target)
    try:
        with _children(target, folder) as children:
            for number in range(cases):
                tally.count(_confirmed(children, drawn(TARGETS[target], folder / "pristine", seed, number), tally, minimise=minimise))
    except BrokenTarget as broken:
        tally.count(broken.outcome)
    return tally


def replay(target: str, cases: Iterable[Case], folder: Path) -> Tally:
    """The outcomes of cases of one target."""
    tally = Tally(target)
    try:
        with _children(target, folder) as children:
            for case in cases:
                tally.count(_confirmed(children, case, tally, minimise=False))
    except BrokenTarget as broken:
        tally.count(broken.outcome)
    return tally


class _Children:
    """The child in use, made anew when the one before has died."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.child = Child(target, folder)

    def run(self, case: Case) -> Outcome:
        outcome = self.child.run(case)
        if not self.child.alive:
            self.renew()
        return outcome

    def alone(self, case: Case) -> Outcome:
        """The outcome in a new child, which has seen no other case."""
        self.renew()
        return self.run(case)

    def renew(self) -> None:
        self.child.stop()
        self.child = Child(self.target, self.folder)


@contextmanager
def _children(target: str, folder: Path) -> Iterator[_Children]:
    folder.mkdir(parents=True, exist_ok=True)
    children = _Children(target, folder)
    try:
        yield children
    finally:
        children.child.stop()
        for scratch in folder.glob("scratch-*"):
            shutil.rmtree(scratch, ignore_errors=True)


def _confirmed(children: _Children, case: Case, tally: Tally, *, minimise: bool) -> Outcome:
    """The outcome of a case; a failure counts if it happens again in a new child, and the first of its kind is made minimal."""
    outcome = children.run(case)
    earlier = sum(failure.group == outcome.group for failure in tally.failures)
    if outcome.verdict == FAILURE and earlier < CONFIRMED:
        outcome = children.alone(case)
        if outcome.verdict == FAILURE and minimise and not earlier:
            outcome = _minimal(children, outcome)
    return outcome


def _minimal(children: _Children, outcome: Outcome) -> Outcome:
    """The same failure with the operations left out that it does not need."""
    operations = outcome.case.operations
    for operation in list(operations):
        fewer = [other for other in operations if other is not operation]
        again = children.alone(replace(outcome.case, operations=fewer))
        if again.verdict == FAILURE and again.group == outcome.group:
            operations, outcome = fewer, again
    return outcome
