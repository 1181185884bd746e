"""Memory and time of a large batch, whole and in chunks by gradient caching.

    python -m benchmarks.speed.gradient_cache                      # 2,048 images of 96 px in chunks of 64; whole batches of 256 and 512
    python -m benchmarks.speed.gradient_cache --cached 2048 --chunk 32 --whole 1024

A training step of MobileNetV2 with MATHM's losses, each size in a process of its own: seconds an image and peak memory, beyond those before the
first step. A whole batch of 2,048 needs some 25 GiB, so its time is taken from smaller ones, whose time an image is the same or less.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.speed.timing import processor
from sbirlib import part
from sbirlib.encoders.backbone import Backbone
from sbirlib.interfaces import Batch, Step
from sbirlib.memory import keep_freed_memory
from sbirlib.training.gradient_cache import GradientCache


def main() -> None:
    options = parse_options()
    if options.only:
        print(json.dumps(measure(options.only, options.chunk if options.chunked else None, options.size, options.steps)))
        return
    sizes = [(size, False) for size in options.whole] + [(options.cached, True)]
    results = [alone(size, chunked, options) for size, chunked in sizes]
    base = min(result["seconds_an_image"] for result in results[:-1])
    about = {"backbone": "mobilenetv2_100", "pixels": options.size, "threads": torch.get_num_threads(), "processor": processor()}
    about |= {"torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps({"results": results, "cached_over_whole": round(results[-1]["seconds_an_image"] / base, 3), **about}, indent=1))


def alone(size: int, chunked: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one size in a process of its own."""
    arguments = ["--only", str(size), "--chunk", str(options.chunk), "--size", str(options.size), "--steps", str(options.steps)]
    line = [sys.executable, "-m", "benchmarks.speed.gradient_cache", *arguments, *(["--chunked"] if chunked else [])]
    output = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(output)
    print(result, file=sys.stderr, flush=True)
    return result


def measure(images: int, chunk: int | None, size: int, steps: int) -> dict[str, Any]:
    """Median seconds an image, and peak memory, of a step on so many images [B, 3, size, size]."""
    keep_freed_memory()
    encoder: Backbone = part("encoder", "backbone", backbone="mobilenetv2_100", pretrained=False, dim=512)
    encoder.train().to(memory_format=torch.channels_last)
    loss, miner = part("loss", "balanced_triplet"), part("miner", "modality_hard")
    labels = torch.arange(images) // 8
    batch = Batch(torch.rand(images, 3, size, size), torch.arange(images) % 8 // 4, labels, labels)
    before, times = peak(), []
    for _ in range(steps + 1):
        start = time.perf_counter()
        cache = None if chunk is None else GradientCache(encoder, encoder, batch, chunk)
        features = encoder(batch) if cache is None else cache.features
        torch.stack(list(loss(Step(features, encoder=encoder, batch=batch, miner=miner)).values())).sum().backward()
        if cache is not None:
            cache.backward()
        encoder.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    seconds = float(np.median(times[1:]))
    return {"images": images, "chunk": chunk, "seconds_an_image": round(seconds / images, 6), "GiB": round((peak() - before) / 2**30, 2)}


def peak() -> int:
    """Largest bytes in memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cached", type=int, default=2048, help="images of the batch in chunks")
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--whole", type=int, nargs="*", default=[256, 512], help="images of the whole batches")
    parser.add_argument("--size", type=int, default=96, help="side of an image, in pixels")
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one that warms up")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--chunked", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
