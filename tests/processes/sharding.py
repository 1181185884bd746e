"""Trainings with and without divided weights, one after another in the same processes: losses, weights, and bytes of a process.

python -m tests.processes.launch 2 -m tests.processes.sharding FOLDER JOBS

JOBS is JSON: for each name the keys `shard`, `stop` (the step after which it is stopped), `resume` (the job that it goes on with), `recipe`
and `changes` of it. With the recipe's name ending in "+double" all is in float64, and nothing is validated.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from tests.processes.recipes import few_of, speckled
from torch import Tensor

from sbirlib.data.split import split
from sbirlib.processes import join, leave_together, rank, wait
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.training.sharding import assembled
from sbirlib.training.steps import StepEvent

STEPS = 6


class Stop(Exception):
    """The end of a job that is to be resumed."""


def part(parameter: Tensor) -> int:
    """Bytes of a parameter that this process holds."""
    return int(parameter.to_local().nbytes if hasattr(parameter, "to_local") else parameter.nbytes)


def trained(recipe: str, out: Path, shard: bool, stop: int, resume: bool, changes: dict[str, Any]) -> dict[str, Any]:
    """Losses by step, weights at the end, gradients of the first step, and bytes of the encoder's parameters in this process."""
    name, _, double = recipe.partition("+")
    if double:
        torch.set_default_dtype(torch.float64)
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    pipeline = small(Subject("recipe", name, few_of(name) | changes), steps=STEPS)
    pipeline.encoder.to(torch.get_default_dtype())
    data = speckled() if double else split(speckled(), "seed:0")
    losses: dict[int, dict[str, float]] = {}
    gradients: dict[str, Tensor] = {}
    memory: list[int] = []

    def note(event: StepEvent) -> None:
        losses[event.done] = dict(event.losses)
        memory.append(sum(map(part, pipeline.encoder.parameters())))
        if event.done == 1:
            for name, parameter in pipeline.model.named_parameters():
                if (gradient := parameter.grad) is not None:
                    gradients[name] = assembled(gradient).clone()
        if event.done == stop:
            raise Stop

    try:
        pipeline.fit(data, out=out, resume=resume, shard=shard, save_every=1, device="cpu", progress=False, tensorboard=False, on_step=note)
    except Stop:
        return {}
    return {"losses": losses, "weights": pipeline.model.tensors(), "gradients": gradients, "memory": memory[-1]}


def main() -> None:
    folder, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    join()
    for name, job in jobs.items():
        if job.get("resume") and rank() == 0:
            shutil.copytree(folder / job["resume"], folder / name)
        wait()
        result = trained(
            job.get("recipe", "mathm-baseline"), folder / name, job["shard"], job.get("stop", 0), "resume" in job, job.get("changes", {})
        )
        if rank() == 0:
            torch.save(result, folder / f"{name}.pt")
    leave_together()
    threads = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    assert not [name for name in threads if "gloo" in name], threads


if __name__ == "__main__":
    main()
