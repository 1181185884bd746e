"""Overhead of the training loop over a bare forward, backward and optimizer step of the same encoder.

    python -m benchmarks.speed.loop            # the synthetic set; --data FOLDER for another

Blocks of 20 steps in turn, in one process: the training loop (reading and augmentation of batches, mining, MATHM's losses, parameter
rules, schedule, checks, logs), and bare steps of a copy of its encoder with a linear classifier on one batch in memory. Median and
quartiles of the blocks' ratios, in wall-clock time and in processor time, which other programs disturb less; the first pair of blocks
is a warm-up and is left out. Norms are in training mode: the activations of an untrained network vanish otherwise, and processors are
slow with the resulting denormal numbers.
"""

import argparse
import copy
import json
import platform
import sys
import tempfile
import time

import numpy as np
import torch
from torch import nn

from sbirlib import Pipeline, build, folder, synthetic
from sbirlib.interfaces import Batch, Encoder
from sbirlib.memory import keep_freed_memory
from sbirlib.training.steps import StepEvent

BLOCK = 20


class Bare:
    """Bare training steps of a copy of the encoder with a linear classifier, on one batch."""

    def __init__(self, encoder: Encoder, batch: Batch) -> None:
        self.encoder = copy.deepcopy(encoder).train().requires_grad_(True)
        self.classifier = nn.Linear(encoder.dim, int(batch.category.max()) + 1, bias=False)
        parameters = [*self.encoder.parameters(), *self.classifier.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-5, weight_decay=5e-4, fused=True)
        self.batch = batch

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        embedding = self.encoder(self.batch).embedding
        nn.functional.cross_entropy(self.classifier(embedding), self.batch.category).backward()
        self.optimizer.step()


class Stopwatch:
    """Observer of training that runs a bare block after every block of the loop, and times both."""

    def __init__(self) -> None:
        self.blocks: list[tuple[float, float]] = []
        self.processor: list[tuple[float, float]] = []
        self.bare: Bare | None = None
        self.start = self.start_cpu = 0.0

    def __call__(self, event: StepEvent) -> None:
        if self.bare is None:
            self.bare = Bare(event.step.encoder, event.step.batch)
        elif event.done % BLOCK == 0:
            loop, loop_cpu = time.perf_counter() - self.start, time.process_time() - self.start_cpu
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(BLOCK):
                self.bare.step()
            bare, bare_cpu = time.perf_counter() - start, time.process_time() - start_cpu
            self.blocks.append((loop, bare))
            self.processor.append((loop_cpu, bare_cpu))
            ratios = f"{loop / bare:.4f}, of processor time {loop_cpu / bare_cpu:.4f}"
            print(f"block {len(self.blocks) - 1}: loop {loop:.2f} s, bare {bare:.2f} s, ratio {ratios}", file=sys.stderr)
        if event.done % BLOCK == 0 or event.done == 1:
            self.start, self.start_cpu = time.perf_counter(), time.process_time()


def main() -> None:
    options = parse_options()
    keep_freed_memory()  # as the command line does
    dataset = folder(options.data) if options.data else synthetic(categories=40, unseen=8, instances=10, size=options.size)
    stopwatch = Stopwatch()
    pipeline = build_pipeline(options)
    with tempfile.TemporaryDirectory() as out:
        pipeline.fit(dataset, out=out, on_step=stopwatch)
    result = {
        "loop_over_bare": spread(stopwatch.blocks[1:]),
        "of_processor_time": spread(stopwatch.processor[1:]),
        "blocks": options.blocks,
        "steps_a_block": BLOCK,
        "bare_seconds_a_step": round(float(np.median([bare for _, bare in stopwatch.blocks])) / BLOCK, 4),
        "backbone": options.backbone,
        "size": options.size,
        "batch": 8 * options.categories,
        "data": dataset.name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(result, indent=1))


def build_pipeline(options: argparse.Namespace) -> Pipeline:
    """MATHM for one warm-up block and the timed blocks."""
    phase = {
        "steps": BLOCK * (options.blocks + 1),
        "schedule": {"warmup": 0},
        "parameters": [{"of": "encoder.backbone", "lr": 1e-5, "frozen": 0}],
    }
    return build(
        "mathm",
        encoder={"backbone": options.backbone, "pretrained": False},
        transform={"size": options.size},
        sampler={"categories": options.categories},
        phases=[phase],
    )


def spread(blocks: list[tuple[float, float]]) -> dict[str, float]:
    """Median and quartiles of the ratios of (loop, bare) seconds."""
    ratios = np.array([loop / bare for loop, bare in blocks])
    return dict(zip(("low", "median", "high"), np.percentile(ratios, [25, 50, 75]).round(4).tolist(), strict=True))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder of sketches and photos; default: the synthetic set")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--categories", type=int, default=16, help="categories of a batch, with 4 sketches and 4 photos each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
