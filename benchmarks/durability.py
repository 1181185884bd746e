"""What does a run lose when it is killed, or when the disk is full? Nothing: its end is bit-identical to that of an undisturbed run.

    python benchmarks/durability.py                       # every recipe that is installed
    python benchmarks/durability.py mathm --kills 5

A small copy of the recipe (the conformance kit's) saves after every step. It is killed by SIGKILL at random instants, a good quarter of them
inside a save, and started again each time; then once more where no file may grow to a checkpoint's size, which ends in an error and leaves the
previous checkpoint whole. Every process is a fork of a server that has imported everything and computed nothing, as a fork of a process whose
threads have computed may stand still.
"""

from __future__ import annotations

import argparse
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

from sbirlib import InputError, list_recipes
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.testing.world import separable
from sbirlib.training import checkpoint, loop

STEPS, KILLS, PATIENCE = 12, 20, 600.0  # of a phase; seconds for one step
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["durability", "timm"])


@dataclass
class Outcome:
    """What happened to one recipe, and whether its end is the undisturbed one's."""

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
    parser.add_argument("recipes", nargs="*", help="all unless given")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {given.kills} kills a recipe, seed {given.seed}\n")
    print("| recipe | kills | inside a save | full disk | its end |\n| --- | ---: | ---: | --- | --- |")
    outcomes: list[Outcome] = []
    for name in given.recipes or list_recipes():
        outcomes.append(survive(name, kills=given.kills, seed=given.seed))
        print(outcomes[-1], flush=True)
    if any(outcome.differing or outcome.full_disk.startswith("LOST") for outcome in outcomes):
        raise SystemExit(1)


def survive(name: str, *, kills: int = KILLS, steps: int = STEPS, seed: int = 0) -> Outcome:
    """Train the recipe undisturbed, and again under so many kills and a full disk."""
    draw, outcome = random.Random(f"{name}/{seed}"), Outcome(name)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        saving = finish(name, whole, steps)
        left = kills
        while left:
            inside = outcome.inside_a_save < -(-kills // 4)
            done = kill_one(name, killed, steps, draw, inside=inside, within=saving / 4)
            if done == "finished":  # all steps are done before all kills are: from the start again, for the kills that are left
                outcome.differing += differing(whole, killed)
                for file in killed.iterdir():
                    file.unlink()
                continue
            left -= 1
            outcome.kills += 1
            outcome.inside_a_save += done == "inside"
        while not underway(killed, steps):
            kill_one(name, killed, steps, draw, inside=True, within=0)
        outcome.full_disk = full_disk(name, killed, steps)
        finish(name, killed, steps)
        outcome.differing += differing(whole, killed)
    return outcome


def train(name: str, folder: Path, steps: int) -> None:
    torch.set_num_threads(1)
    small(Subject("recipe", name), steps=steps).fit(
        separable(), out=folder, resume=True, save_every=1, device="cpu", progress=False, tensorboard=False
    )


def started(target: Callable[..., None], *args: Any) -> tuple[BaseProcess, Connection]:
    """A process that runs the target, and the end of a pipe that reads what it sends."""
    reader, writer = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=target, args=(writer, *args))
    process.start()
    writer.close()  # so that reading ends when the process does
    return process, reader


def finish(name: str, folder: Path, steps: int) -> float:
    """Train to the end; the seconds from its first save on."""
    process, reader = started(telling, name, folder, steps)
    reader.poll(PATIENCE)
    began = time.monotonic()
    process.join()
    reader.close()
    if process.exitcode:
        raise RuntimeError(f"{name}: a run that nobody disturbed failed")
    return time.monotonic() - began


def underway(folder: Path, steps: int) -> bool:
    """Whether there is a checkpoint of a run that has not ended; one that has is removed."""
    file = folder / "checkpoint.safetensors"
    if not file.is_file():
        return False
    about = checkpoint.read(file)[1]
    position = about["training"]["position"]
    if (position["phase"], position["step"]) == (len(about["recipe"]["phases"]) - 1, steps):
        file.unlink()
        return False
    return True


def kill_one(name: str, folder: Path, steps: int, draw: random.Random, *, inside: bool, within: float) -> str:
    """Start the run and kill it: `inside` its first or second save, or at any time `within` so many seconds after its first save began.
    How it was met: "inside", "between" or "finished"."""
    nth, after = draw.choice((1, 2)), draw.uniform(0, 2e-3 if inside else within)
    process, reader = started(telling, name, folder, steps)
    begun, saving = 0, False
    until = time.monotonic() + PATIENCE
    try:
        while reader.poll(max(0.0, until - time.monotonic())):
            saving = reader.recv()
            begun += saving
            if inside and begun == nth:
                time.sleep(after)
                break
            if not inside and begun == 1 and saving:
                until = time.monotonic() + after
    except EOFError:  # it has ended by itself
        pass
    process.kill()
    process.join()
    try:
        while True:
            saving = reader.recv()
    except EOFError:
        reader.close()
    if process.exitcode != -signal.SIGKILL:
        if process.exitcode:
            raise RuntimeError(f"{name}: a run that was resumed failed")
        return "finished"
    return "inside" if saving else "between"


def telling(writer: Connection, *args: Any) -> None:
    """Train, and say when a save begins (True) and ends (False)."""
    save = loop._save

    def told(*args: Any) -> None:
        writer.send(True)
        save(*args)
        writer.send(False)

    loop._save = told  # type: ignore[assignment]
    train(*args)


def full_disk(name: str, folder: Path, steps: int) -> str:
    """Go on where no file may grow beyond half a checkpoint; what is said, once the previous checkpoint was seen to be whole."""
    file = folder / "checkpoint.safetensors"
    before = file.read_bytes()
    position = checkpoint.read(file)[1]["training"]["position"]
    process, reader = started(bounded, len(before) // 2, name, folder, steps)
    try:
        said = reader.recv()
    except EOFError:
        said = ""
    process.join()
    if file.read_bytes() != before or "untouched" not in said:
        return f"LOST at {position}: {said or 'no error'}"
    return "an error; the checkpoint is whole"


def bounded(writer: Connection, size: int, *args: Any) -> None:
    """Train where no file may grow beyond so many bytes, and say what error that gave."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        train(*args)
    except InputError as error:
        writer.send(str(error))


def differing(one: Path, other: Path) -> list[str]:
    """The tensors in which two finished runs differ."""
    (ours, about), (theirs, _) = (checkpoint.read(folder / "checkpoint.safetensors") for folder in (one, other))
    assert about["training"]["position"]
    if ours.keys() != theirs.keys():
        return sorted(ours.keys() ^ theirs.keys())
    return [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"durability: {error}") from None
