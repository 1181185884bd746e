"""Training killed at random instants and trained on a full disk, compared bit for bit with an undisturbed run.

    python -m benchmarks.durability.survival                       # every installed recipe
    python -m benchmarks.durability.survival mathm --kills 5

The recipe, in the small size of the conformance kit, saves after every step. It is killed by SIGKILL at random instants, at least a
quarter of them inside a save, and resumed each time. Then it runs once with a limit on the size of files that is below the size of a
checkpoint: that must end in an error and leave the previous checkpoint intact. Every process is a fork of a server that has imported
the packages and computed nothing, because a fork of a process whose threads have computed may deadlock.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from sbirlib import InputError, list_parts
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.testing.world import separable
from sbirlib.training import checkpoint
from sbirlib.training.output import SAVED, SAVING

STEPS, KILLS, PATIENCE = 12, 20, 600.0  # steps of a phase; kills of a recipe; seconds for one step
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["sbirlib.testing.recipe", "sbirlib.testing.world", "timm"])  # not this module: it may be __main__


@dataclass
class Outcome:
    """Kills and full-disk result of one recipe, and the tensors in which its final checkpoint differs from the undisturbed one."""

    recipe: str
    kills: int = 0
    inside_a_save: int = 0
    full_disk: str = ""
    differing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        end = "bit-identical" if not self.differing else f"DIFFERS: {', '.join(self.differing[:3])}"
        return f"| {self.recipe} | {self.kills} | {self.inside_a_save} | {self.full_disk} | {end} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="names; default: all")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {options.kills} kills a recipe, seed {options.seed}\n")
    print("| recipe | kills | inside a save | full disk | its end |\n| --- | ---: | ---: | --- | --- |")
    outcomes: list[Outcome] = []
    for name in options.recipes or list_parts("recipe"):
        outcomes.append(survive(name, kills=options.kills, seed=options.seed))
        print(outcomes[-1], flush=True)
    if any(outcome.differing or outcome.full_disk.startswith("LOST") for outcome in outcomes):
        raise SystemExit(1)


def survive(name: str, *, kills: int = KILLS, steps: int = STEPS, seed: int = 0) -> Outcome:
    """Train a recipe undisturbed, and again with kills and on a full disk."""
    rng, outcome = random.Random(f"{name}/{seed}"), Outcome(name)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, disturbed = Path(folder) / "undisturbed", Path(folder) / "disturbed"
        saving = finish(name, undisturbed, steps)
        remaining = kills
        while remaining:
            inside = outcome.inside_a_save < -(-kills // 4)
            end = kill_one(name, disturbed, steps, rng, inside=inside, within=saving / 4)
            if end == "finished":  # all steps are done before all kills are: start again for the remaining kills
                outcome.differing += differing(undisturbed, disturbed)
                for file in disturbed.iterdir():
                    file.unlink()
                continue
            remaining -= 1
            outcome.kills += 1
            outcome.inside_a_save += end == "inside"
        while not unfinished(disturbed, steps):
            kill_one(name, disturbed, steps, rng, inside=True, within=0)
        outcome.full_disk = full_disk(name, disturbed, steps)
        finish(name, disturbed, steps)
        outcome.differing += differing(undisturbed, disturbed)
    return outcome


def train(name: str, folder: Path, steps: int) -> None:
    """Train a recipe in small, resuming from `folder`."""
    torch.set_num_threads(1)
    small(Subject("recipe", name), steps=steps).fit(
        separable(), out=folder, resume=True, save_every=1, device="cpu", progress=False, tensorboard=False
    )


def start(target: Callable[..., None], *args: Any) -> tuple[BaseProcess, Connection]:
    """Start a process that runs the target; return it with the reading end of its pipe."""
    reader, writer = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=target, args=(writer, *args))
    process.start()
    writer.close()  # so that reading ends when the process does
    return process, reader


def finish(name: str, folder: Path, steps: int) -> float:
    """Train to the end; return the seconds since the first save."""
    process, reader = start(train_and_report_saves, name, folder, steps)
    reader.poll(PATIENCE)
    first_save = time.monotonic()
    process.join()
    reader.close()
    if process.exitcode:
        raise RuntimeError(f"{name}: an undisturbed run failed")
    return time.monotonic() - first_save


def unfinished(folder: Path, steps: int) -> bool:
    """Whether the folder has the checkpoint of an unfinished run; the checkpoint of a finished one is removed."""
    file = folder / "checkpoint.safetensors"
    if not file.is_file():
        return False
    about = checkpoint.read(file)[1]
    position = about["training"]["position"]
    if (position["phase"], position["step"]) == (len(about["recipe"]["phases"]) - 1, steps):
        file.unlink()
        return False
    return True


def kill_one(name: str, folder: Path, steps: int, rng: random.Random, *, inside: bool, within: float) -> str:
    """Start the run and kill it: in its first or second save if `inside`, else up to `within` seconds after its first save began.

    Returns the state in which it ended: "inside" or "between" saves, or "finished".
    """
    nth, delay = rng.choice((1, 2)), rng.uniform(0, 2e-3 if inside else within)
    process, reader = start(train_and_report_saves, name, folder, steps)
    saves, saving = 0, False
    until = time.monotonic() + PATIENCE
    try:
        while reader.poll(max(0.0, until - time.monotonic())):
            saving = reader.recv()
            saves += saving
            if inside and saves == nth:
                time.sleep(delay)
                break
            if not inside and saves == 1 and saving:
                until = time.monotonic() + delay
    except EOFError:  # it has ended by itself
        pass
    process.kill()
    process.join()
    saving = last_message(reader, default=saving)
    if process.exitcode != -signal.SIGKILL:
        if process.exitcode:
            raise RuntimeError(f"{name}: a resumed run failed")
        return "finished"
    return "inside" if saving else "between"


def last_message(reader: Connection, default: Any) -> Any:
    """Last message in the pipe of a process that has ended, or the default; closes the pipe."""
    message = default
    try:
        while True:
            message = reader.recv()
    except EOFError:
        reader.close()
    return message


def train_and_report_saves(writer: Connection, *args: Any) -> None:
    """Train, and send True before and False after every save."""

    class Reporter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.msg in (SAVING, SAVED):
                writer.send(record.msg == SAVING)

    logger = logging.getLogger("sbirlib.training.output")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Reporter())
    train(*args)


def full_disk(name: str, folder: Path, steps: int) -> str:
    """Resume with files limited to half the size of the checkpoint; return whether the error was reported and the checkpoint is intact."""
    file = folder / "checkpoint.safetensors"
    before = file.read_bytes()
    position = checkpoint.read(file)[1]["training"]["position"]
    process, reader = start(train_with_file_limit, len(before) // 2, name, folder, steps)
    try:
        message = reader.recv()
    except EOFError:
        message = ""
    process.join()
    if file.read_bytes() != before or "untouched" not in message:
        return f"LOST at {position}: {message or 'no error'}"
    return "an error; the checkpoint is whole"


def train_with_file_limit(writer: Connection, size: int, *args: Any) -> None:
    """Train with files limited to `size` bytes, and send the error message."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        train(*args)
    except InputError as error:
        writer.send(str(error))


def differing(one: Path, other: Path) -> list[str]:
    """Names of the tensors in which the checkpoints of two finished runs differ."""
    (ours, about), (theirs, _) = (checkpoint.read(folder / "checkpoint.safetensors") for folder in (one, other))
    assert about["training"]["position"]
    if ours.keys() != theirs.keys():
        return sorted(ours.keys() ^ theirs.keys())
    return [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"survival: {error}") from None
