"""What the training loop adds to a bare forward, backward and optimizer step of the same encoder.

    python benchmarks/loop.py            # the synthetic set; --data FOLDER for another

Blocks of 20 steps in turn, in one process: the real loop (reading and augmenting batches, mining, MATHM's losses, rules, schedule, checks,
logs) and bare steps of a copy of its encoder with a linear classifier on one batch that is in memory. The median of the blocks' ratios
with its quartiles, by the clock and by processor time, which other programs disturb less; the first pair of blocks warms up and is left out.
Norms are in training mode, as an untrained network's activations else vanish, and a processor is slow with the denormal numbers that follow.
As in the command line, freed memory is kept.
"""

import argparse
import copy
import json
import platform
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sbirlib import build, folder, synthetic
from sbirlib.interfaces import Batch, Encoder, Loss, Step
from sbirlib.memory import keep_freed_memory

BLOCK = 20


class Bare:
    """The same network, trained in the fewest lines there are."""

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


class Stopwatch(Loss):
    """A loss of nothing, whose hook runs a bare block after every block of the loop and times both."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[tuple[float, float]] = []
        self.processor: list[tuple[float, float]] = []
        self.count = 0
        self.bare: Bare | None = None
        self.started = self.started_cpu = 0.0

    def forward(self, step: Step) -> Tensor:
        return step.features.embedding.sum() * 0

    def after_step(self, step: Step) -> None:
        self.count += 1
        if self.bare is None:
            self.bare = Bare(step.encoder, step.batch)
        elif self.count % BLOCK == 0:
            loop, loop_cpu = time.perf_counter() - self.started, time.process_time() - self.started_cpu
            started, started_cpu = time.perf_counter(), time.process_time()
            for _ in range(BLOCK):
                self.bare.step()
            bare, bare_cpu = time.perf_counter() - started, time.process_time() - started_cpu
            self.blocks.append((loop, bare))
            self.processor.append((loop_cpu, bare_cpu))
            ratios = f"{loop / bare:.4f}, of processor time {loop_cpu / bare_cpu:.4f}"
            print(f"block {len(self.blocks) - 1}: loop {loop:.2f} s, bare {bare:.2f} s, ratio {ratios}", file=sys.stderr)
        if self.count % BLOCK == 0 or self.count == 1:
            self.started, self.started_cpu = time.perf_counter(), time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder of sketches and photos; the synthetic set without it")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--categories", type=int, default=16, help="of a batch, which has 4 sketches and 4 photos of each")
    chosen = parser.parse_args()
    keep_freed_memory()
    dataset = folder(chosen.data) if chosen.data else synthetic(categories=40, unseen=8, instances=10, size=chosen.size)
    stopwatch = Stopwatch()
    losses: dict[str, Any] = {"cross_entropy": {}, "balanced_triplet": {}, "stopwatch": stopwatch}
    pipeline = build(
        "mathm",
        losses=losses,
        encoder={"backbone": chosen.backbone, "pretrained": False},
        transform={"size": chosen.size},
        sampler={"categories": chosen.categories},
        phases=[
            {
                "steps": BLOCK * (chosen.blocks + 1),
                "weights": dict.fromkeys(losses, 1.0),
                "schedule": {"warmup": 0},
                "parameters": [{"of": "encoder.backbone", "lr": 1e-5, "frozen": 0}],
            }
        ],
    )
    with tempfile.TemporaryDirectory() as out:
        pipeline.fit(dataset, out=out, progress=True)
    result = {
        "loop_over_bare": spread(stopwatch.blocks[1:]),
        "of_processor_time": spread(stopwatch.processor[1:]),
        "blocks": chosen.blocks,
        "steps_a_block": BLOCK,
        "bare_seconds_a_step": round(float(np.median([bare for _, bare in stopwatch.blocks])) / BLOCK, 4),
        "backbone": chosen.backbone,
        "size": chosen.size,
        "batch": 8 * chosen.categories,
        "data": dataset.name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(result, indent=1))


def spread(blocks: list[tuple[float, float]]) -> dict[str, float]:
    """The median and quartiles of the ratios."""
    ratios = np.array([loop / bare for loop, bare in blocks])
    return dict(zip(("low", "median", "high"), np.percentile(ratios, [25, 50, 75]).round(4).tolist(), strict=True))


if __name__ == "__main__":
    main()
