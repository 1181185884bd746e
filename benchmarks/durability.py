"""What does a run lose when it is killed, or when the disk is full? Nothing: its end is bit-identical to that of an undisturbed run.

    python benchmarks/durability.py                       # every recipe that is installed
    python benchmarks/durability.py mathm --kills 5

A small copy of the recipe (the conformance kit's) saves after every step. It is killed by SIGKILL at random instants, a good quarter of them
inside a save, and started again each time; then once more where no file may grow to a checkpoint's size, which ends in an error and leaves the
previous checkpoint whole. Every process is a fork of one that has imported everything.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import select
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sbirlib import InputError, list_recipes
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.testing.world import separable
from sbirlib.training import checkpoint
from sbirlib.training.loop import _save as save

STEPS, KILLS, PATIENCE = 12, 20, 600.0  # of a phase; seconds for one step


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
    torch.set_num_threads(1)
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
        began = time.monotonic()
        finish(name, whole, steps)
        pace = (time.monotonic() - began) / steps
        left = kills
        while left:
            inside = outcome.inside_a_save < -(-kills // 4)
            done = kill_one(name, killed, steps, draw, inside=inside, within=pace * steps / 4)
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
    small(Subject("recipe", name), steps=steps).fit(
        separable(), out=folder, resume=True, save_every=1, device="cpu", progress=False, tensorboard=False
    )


def finish(name: str, folder: Path, steps: int) -> None:
    pid = child(lambda: train(name, folder, steps))
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"{name}: a run that nobody disturbed failed")


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
    reader, writer = os.pipe()
    nth, after = draw.choice((1, 2)), draw.uniform(0, 2e-3 if inside else within)

    def told() -> None:
        """Say when a save begins and ends."""
        from sbirlib.training import loop

        def noisy(*args: Any) -> None:
            os.write(writer, b"(")
            save(*args)
            os.write(writer, b")")

        loop._save = noisy  # type: ignore[assignment]
        train(name, folder, steps)

    pid = child(told)
    os.close(writer)
    heard = b""
    until = time.monotonic() + PATIENCE
    while True:
        wait = until - time.monotonic()
        ready = select.select([reader], [], [], max(0.0, wait))[0]
        said = os.read(reader, 1) if ready else b""
        if ready and not said:
            break  # the pipe is closed: it has ended by itself
        heard += said
        if inside and heard.count(b"(") == nth:
            time.sleep(after)
            break
        if not inside and heard == b"(":
            until = time.monotonic() + after
        if not ready:
            break
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    rest = b""
    while said := os.read(reader, 4096):
        rest += said
    os.close(reader)
    if not os.WIFSIGNALED(status):
        if os.WEXITSTATUS(status):
            raise RuntimeError(f"{name}: a run that was resumed failed")
        return "finished"
    return "inside" if (heard + rest).count(b"(") > (heard + rest).count(b")") else "between"


def full_disk(name: str, folder: Path, steps: int) -> str:
    """Go on where no file may grow beyond half a checkpoint; what is said, once the previous checkpoint was seen to be whole."""
    file = folder / "checkpoint.safetensors"
    before = file.read_bytes()
    position = checkpoint.read(file)[1]["training"]["position"]
    reader, writer = os.pipe()

    def bounded() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))
        try:
            train(name, folder, steps)
        except InputError as error:
            os.write(writer, str(error).encode()[-300:])

    os.waitpid(child(bounded), 0)
    os.close(writer)
    said = os.read(reader, 4096).decode()
    os.close(reader)
    if file.read_bytes() != before or "untouched" not in said:
        return f"LOST at {position}: {said or 'no error'}"
    return "an error; the checkpoint is whole"


def child(work: Callable[[], None]) -> int:
    """Fork, work there, and leave without any of this process's endings."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def differing(one: Path, other: Path) -> list[str]:
    """The tensors in which two finished runs differ."""
    (ours, about), (theirs, _) = (checkpoint.read(folder / "checkpoint.safetensors") for folder in (one, other))
    assert about["training"]["position"]
    if ours.keys() != theirs.keys():
        return sorted(ours.keys() ^ theirs.keys())
    return [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


if __name__ == "__main__":
    main()
