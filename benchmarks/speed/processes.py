"""Cost of several processes: a step of two, with its exchanges, beside the same computation without them.

    python -m benchmarks.speed.processes                # rows alone, at batches of 128 and 1,024, and whole steps
    python -m benchmarks.speed.processes --processes 4

Two kinds of work, in blocks in turn, in the same processes: with the exchanges; with each of them replaced by a copy of this process's own
values, so that every process computes as much; and so with a message of four bytes in place of each exchange, which is the least that waiting
for the other processes costs. "Rows" are distances, mining, MATHM's losses and their gradient over the gathered rows of a linear
layer; "step" adds a backbone, whose batch norms exchange statistics, and the mean of all gradients. Median and quartiles of the blocks' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from benchmarks.speed.timing import processor
from sbirlib import part
from sbirlib.gather import gather
from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib.memory import keep_freed_memory
from sbirlib.processes import join, leave, rank, wait, world_size
from sbirlib.training.average import averaged
from sbirlib.whole_batch import whole_batch

KINDS = {"rows": (128, 1024), "step": (128,)}
REPEATS = {("rows", 128): (20, 20), ("rows", 1024): (24, 5), ("step", 128): (8, 2)}  # blocks, and steps of a block


class Rows(Encoder):
    """A linear layer, so that a step is made of its losses alone."""

    def __init__(self, dim: int = 512) -> None:
        super().__init__()
        self.dim = self.vector_dim = dim
        self.layer = nn.Linear(64, dim)

    def forward(self, batch: Batch) -> Features:
        return Features.of(batch, self.layer(batch.images[:, 0].flatten(1)[:, :64]))


def main() -> None:
    options = parse_options()
    if "RANK" in os.environ:
        measure()
        return
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(options.processes), "-m", "benchmarks.speed.processes"]
    raise SystemExit(subprocess.run([sys.executable, *start], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False).returncode)


def measure() -> None:
    """Time every kind and size in this process, together with the others."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as on the command line
    join()
    results = {}
    for kind, sizes in KINDS.items():
        for size in sizes:
            encoder: Encoder = Rows() if kind == "rows" else part("encoder", "backbone", backbone="mobilenetv2_100", pretrained=False)
            step = step_of(encoder.train(), size // world_size(), means=kind == "step")
            ratios, waits, seconds = [], [], []
            blocks, count = REPEATS[kind, size]
            for _ in range(blocks + 1):
                together = timed(step, count)
                with alone():
                    own = timed(step, count)
                with alone(meeting=True):
                    waits.append(timed(step, count) / own)
                ratios.append(together / own)
                seconds.append(together / count)
            low, middle, high = np.percentile(ratios[1:], [25, 50, 75]).round(3).tolist()
            waiting = round(float(np.median(waits[1:])), 3)
            figures = {"ratio": middle, "low": low, "high": high, "waiting alone": waiting, "seconds": round(float(np.median(seconds)), 4)}
            results[f"{kind}, {size} images"] = figures
            if rank() == 0:
                print(f"{kind}, {size} images: {figures}", file=sys.stderr)
    if rank() == 0:
        about = {"processes": world_size(), "processor": processor(), "torch": torch.__version__, "python": platform.python_version()}
        print(json.dumps({**results, **about, "backend": "gloo", "pixels": 96, "backbone": "mobilenetv2_100"}, indent=1))
    leave()


def step_of(encoder: Encoder, images: int, *, means: bool) -> Callable[[], None]:
    """A training step on so many images of this process: features of all, MATHM's losses, gradients and, with `means`, their mean."""
    generator = torch.Generator().manual_seed(rank())
    labels = torch.arange(images) // 8 + rank() * (images // 8)
    batch = Batch(torch.rand(images, 3, 96, 96, generator=generator), torch.arange(images) % 8 // 4, labels, labels)
    loss, miner = part("loss", "balanced_triplet"), part("miner", "modality_hard")

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        with whole_batch(draws=True):
            local = encoder(batch)
        features = gather(local, images)
        with averaged(encoder.parameters() if means else [], overlap=False):
            torch.stack(list(loss(Step(features, encoder=encoder, batch=batch, local=local, miner=miner)).values())).sum().backward()

    return step


def timed(step: Callable[[], None], count: int) -> float:
    """Seconds of so many steps, begun by all processes together."""
    wait()
    start = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - start


@contextmanager
def alone(*, meeting: bool = False) -> Iterator[None]:
    """Replace exchanges by copies of this process's own values, and, with `meeting`, by a message of four bytes to each process."""
    send, message = dist.all_to_all_single, torch.zeros(world_size())

    class Done:
        def wait(self) -> None: ...

    def meet() -> Done:
        if meeting:
            send(torch.empty_like(message), message)
        return Done()

    def all_gather(every: list[Tensor], own: Tensor) -> None:
        for other in every:
            other.copy_(own)
        meet()

    def all_to_all_single(parts: Tensor, whole: Tensor, *_: list[int]) -> None:
        own = len(parts) // world_size()
        parts.copy_(whole[:own].repeat(world_size(), *[1] * (whole.ndim - 1)))
        meet()

    def all_reduce(values: Tensor, async_op: bool = False) -> Done:
        return meet()

    wait()
    with mock.patch.multiple(dist, all_gather=all_gather, all_reduce=all_reduce, all_to_all_single=all_to_all_single):
        yield
    wait()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
