"""What the parts of two methods cost, beside what they stand on: ratios of neighbours in one run, medians and quartiles.

    python benchmarks/parts.py gated      # VTD: gated search beside its matrix product, and beside re-weighting the gallery
    python benchmarks/parts.py points     # landmarks: the points, and the pooling, beside a ResNet-50's forward

Both sides run in turns. Re-weighting every photo for every query and draw, as eq. 8 of Pang et al. 2019 reads, is timed on a few
draws and multiplied, which the output says. As in the command line, freed memory is kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib.memory import keep_freed_memory
from sbirlib_landmarks.points import farthest_points
from sbirlib_landmarks.pooling import landmark_pool, project
from sbirlib_vtd.gate import gated_query, plain_gallery

ROWS = 500  # query vectors at once
FEW = 4  # draws of the naive way that are timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_search = commands.add_parser("gated")
    for option, value in {"queries": 1_000, "photos": 10_000, "width": 2_048, "draws": 10}.items():
        of_search.add_argument(f"--{option}", type=int, default=value)
    of_points = commands.add_parser("points")
    for option, value in {"batch": 128, "size": 256, "landmarks": 30}.items():
        of_points.add_argument(f"--{option}", type=int, default=value)
    for each in (of_search, of_points):
        each.add_argument("--repeats", type=int, default=5)
        each.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    about = {"torch": torch.__version__, "machine": platform.machine(), **vars(given)}
    with torch.inference_mode():
        print(json.dumps({"about": about, **(gated(given) if given.command == "gated" else points(given))}, indent=2))


def gated(given: argparse.Namespace) -> dict[str, object]:
    """Scores of all photos for all queries, the best draw of each."""
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(count, given.width), dim=1) for count in (given.queries, given.photos))
    gate = F.normalize(torch.randn(given.queries, given.draws, given.width), dim=2)
    gallery = plain_gallery(b)  # once, when photos are indexed
    few = max(1, ROWS // given.draws)

    def ours() -> None:
        for start in range(0, given.queries, few):
            rows = slice(start, start + few)
            (gated_query(a[rows], gate[rows]).flatten(0, 1) @ gallery.T).unflatten(0, (-1, given.draws)).amax(1)

    ready = gated_query(a[:few], gate[:few]).flatten(0, 1)

    def product() -> None:
        for _ in range(0, given.queries, few):
            ready @ gallery.T

    def naive() -> None:
        for draw in range(FEW):
            w = 1 + gate[0, draw % given.draws]
            (w * a[0] - w * b).square().sum(1)

    whole = given.queries * given.draws / FEW
    return {
        "over its matrix product": ratios(ours, product, given.repeats),
        "re-weighting over ours": ratios(naive, ours, given.repeats, scale=whole),
        "re-weighting": f"timed on {FEW} draws, times {whole:.0f}",
        "numbers a photo": 2 * given.width + 1,
    }


def points(given: argparse.Namespace) -> dict[str, object]:
    """Points and pooling of a batch whose drawings cover a twentieth of the sheet, beside the backbone's forward."""
    torch.manual_seed(0)
    backbone = timm.create_model("resnet50", num_classes=0).eval().to(memory_format=torch.channels_last)
    images = torch.rand(given.batch, 3, given.size, given.size).to(memory_format=torch.channels_last)
    lines = torch.rand(given.batch, given.size, given.size) < 0.05
    features = backbone.forward_features(images)
    cells = (features.shape[2], features.shape[3])
    found = farthest_points(lines, given.landmarks)

    def forward() -> None:
        backbone.forward_features(images)

    return {
        "points over the forward": ratios(lambda: farthest_points(lines, given.landmarks), forward, given.repeats),
        "pooling over the forward": ratios(
            lambda: landmark_pool(features, project(found, (given.size, given.size), cells)), forward, given.repeats
        ),
    }


def ratios(one: Callable[[], Tensor | None], other: Callable[[], Tensor | None], repeats: int, *, scale: float = 1.0) -> dict[str, float]:
    """The time of `one`, times `scale`, over that of `other`: the quartiles of neighbours' ratios, and the best over the best."""
    times: list[tuple[float, float]] = []
    for call in (one, other):  # neither pays for its first call
        call()
    for _ in range(repeats):
        times.append((timed(one) * scale, timed(other)))
    low, median, high = statistics.quantiles([a / b for a, b in times], n=4)
    best = min(a for a, _ in times) / min(b for _, b in times)
    return {"median": round(median, 4), "low": round(low, 4), "high": round(high, 4), "best over best": round(best, 4)}


def timed(call: Callable[[], Tensor | None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
