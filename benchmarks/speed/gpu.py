"""Training of each method at the papers' size on a GPU, beside a bare forward, backward and optimizer step of its backbone.

    python -m benchmarks.speed.gpu                                    # a GPU: ResNet-50, 224 px, bfloat16; under eight minutes
    python -m benchmarks.speed.gpu --device cpu --backbone test_resnet --size 32 --images 16 --steps 4    # the same program, small

For each method with and without `compile`: images a second of the training loop and their ratio to the bare step's on the same images, peak
memory, the share of time that the loop waits for data, and counted floating-point operations a second of the bare step beside the card's limit,
where `--limit` names it. Images are rendered once and kept in memory. A method that takes longer than its share of `--minutes` is cut short, and
says so.
"""

from __future__ import annotations

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
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.timing import processor
from sbirlib import Pipeline, build, recipe_file, synthetic
from sbirlib.data.dataset import Dataset
from sbirlib.device import find_device, memory_in_use
from sbirlib.interfaces import Batch, Encoder
from sbirlib.memory import keep_freed_memory
from sbirlib.recipe import Recipe
from sbirlib.training.steps import StepEvent
from sbirlib.visual.curves import read_log

METHODS = ("mathm", "acnet", "vtd", "landmarks-retrieval")


class Stopwatch:
    """Observer of training: seconds of its steps after a warm-up, without those of the bare steps in between."""

    def __init__(self, warm_up: int, until: float) -> None:
        self.warm_up, self.until = warm_up, until
        self.times: list[float] = []
        self.images = 0
        self.last = 0.0
        self.event: StepEvent | None = None

    def __call__(self, event: StepEvent) -> None:
        synchronise(event.step.batch.images.device)
        now = time.perf_counter()
        if event.done > self.warm_up:
            self.times.append(now - self.last)
        self.last, self.images, self.event = now, len(event.step.batch), event
        if now > self.until and len(self.times) >= 3:
            raise TimeUp


class TimeUp(Exception):
    """The share of time of one method has ended."""


def main() -> None:
    options = parse_options()
    keep_freed_memory()
    device = find_device(options.device)
    start = time.perf_counter()
    dataset = synthetic(categories=20, unseen=4, instances=20, sketches=1, size=min(options.size, 64))
    results: list[dict[str, Any]] = []
    variants = [(method, compiled) for method in options.methods for compiled in (False, True)]
    for number, (method, compiled) in enumerate(variants):
        until = start + 60 * options.minutes * (number + 1) / len(variants)
        results.append({"method": method, "compile": compiled, **measure(method, compiled, dataset, device, options, until)})
        print(results[-1], file=sys.stderr, flush=True)
    about = {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(), "backbone": options.backbone}
    about |= {"pixels": options.size, "images": options.images, "steps": options.steps, "precision": options.precision}
    about |= {"limit_tflops": options.limit, "torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps({"results": results, **about, "seconds": round(time.perf_counter() - start)}, indent=1))


def measure(
    method: str, compiled: bool, dataset: Dataset, device: torch.device, options: argparse.Namespace, until: float
) -> dict[str, Any]:
    """Figures of one method, with or without compilation."""
    pipeline = pipeline_of(method, compiled, options)
    watch = Stopwatch(options.warm_up, until)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    cut = False
    with tempfile.TemporaryDirectory() as folder:
        try:
            pipeline.fit(
                dataset, out=folder, device=str(device), progress=False, tensorboard=False, log_every=options.log_every, on_step=watch
            )
        except TimeUp:
            cut = True
        waiting = [record["waiting"] for record in read_log(folder) if "waiting" in record]
    assert watch.event is not None
    batch, seconds = watch.event.step.batch, float(np.median(watch.times))
    bare, operations = bare_step(watch.event.step.encoder, batch, options)
    return {
        "images_per_second": round(watch.images / seconds, 1),
        "of_bare": round(bare / seconds, 3),
        "bare_images_per_second": round(watch.images / bare, 1),
        "GiB": round(memory_in_use(device) / 2**30, 2),
        "tflops_bare": round(operations / bare / 1e12, 4),
        "of_limit": None if options.limit is None else round(operations / bare / 1e12 / options.limit, 4),
        "waiting": round(float(np.median(waiting)), 4) if waiting else None,
        "steps": len(watch.times),
        "cut_short": cut,
    }


def bare_step(encoder: Encoder, batch: Batch, options: argparse.Namespace) -> tuple[float, int]:
    """Median seconds of a bare forward, backward and update of the encoder on a batch, and its counted operations."""
    network = copy.deepcopy(encoder).train().requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5, fused=True)
    head = nn.Linear(max(network.dim, 1), 1, device=batch.images.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
            features = network(batch)
        head(features.embedding.float()).mean().backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step()
    times = []
    for _ in range(options.warm_up + options.steps):
        synchronise(batch.images.device)
        start = time.perf_counter()
        step()
        synchronise(batch.images.device)
        times.append(time.perf_counter() - start)
    return float(np.median(times[options.warm_up :])), counter.get_total_flops()


def pipeline_of(method: str, compiled: bool, options: argparse.Namespace) -> Pipeline:
    """The last phase of a recipe alone, with its backbone, size and batch as asked for, and nothing frozen."""
    tables = Recipe.of(recipe_file.read(method)).tables()
    inner = tables["encoder"]
    while "backbone" not in inner:
        inner = inner["encoder"]
    inner |= {
        "backbone": options.backbone,
        "pretrained": False,
        "weights": None,
        "timm_options": {},
        "output_stride": options.output_stride,
    }
    tables["transform"]["size"] = options.size
    phase = tables["phases"][-1]
    phase |= {"steps": options.warm_up + options.steps, "schedule": {"name": "constant"}, "parameters": frozen(phase["parameters"])}
    each = options.images // 8
    sizes = {"categories": each, "per_modality": 4, "pairs": options.images // 2, "size": options.images}
    for place in (tables, phase):
        if place.get("sampler"):
            place["sampler"] |= {key: value for key, value in sizes.items() if key in place["sampler"]}
    tables["losses"] = {name: table for name, table in tables["losses"].items() if name in phase["weights"]}
    return build({**tables, "phases": [phase], "precision": options.precision, "compile": compiled})


def frozen(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rules that freeze a module for good; rates and temporary freezes are left out."""
    return [{"of": rule["of"], "frozen": True} for rule in rules if rule.get("frozen") is True]


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=METHODS, help=f"recipes; default: {', '.join(METHODS)}")
    parser.add_argument("--device", help="default: the GPU if there is one")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--output-stride", type=int, help="stride of the backbone's map, for landmarks in small images")
    parser.add_argument("--size", type=int, default=224, help="side of an image, in pixels")
    parser.add_argument("--images", type=int, default=128, help="images a batch, a multiple of 8")
    parser.add_argument("--steps", type=int, default=30, help="timed steps")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before them")
    parser.add_argument("--log-every", type=int, default=10, help="steps between two readings of the losses")
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--limit", type=float, help="the card's 16-bit TFLOP/s, from its data sheet")
    parser.add_argument("--minutes", type=float, default=7.0, help="minutes for all methods")
    return parser.parse_args()


if __name__ == "__main__":
    main()
