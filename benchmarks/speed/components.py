"""Time of VTD's gated search and of landmark points and pooling, each as a ratio to the operation it builds on.

    python -m benchmarks.speed.components gated      # VTD: gated search beside its matrix product, and beside re-weighting the gallery
    python -m benchmarks.speed.components points     # landmarks: the points, and the pooling, beside a ResNet-50's forward

Both sides run in turns in one process; ratios are of neighbours, median and quartiles. Re-weighting every photo for every query and
draw, as eq. 8 of Pang et al. 2019 is written, is timed on a few draws and multiplied; the output says so. As in training, freed memory
is kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F

from benchmarks.speed.timing import seconds
from sbirlib.memory import keep_freed_memory
from sbirlib_landmarks.points import farthest_points
from sbirlib_landmarks.pooling import landmark_pool, project
from sbirlib_vtd.gate import gated_query, plain_gallery

ROWS = 500  # query vectors at once
FEW = 4  # timed draws of the naive way


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
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    about = {"torch": torch.__version__, "machine": platform.machine(), **vars(options)}
    with torch.inference_mode():
        print(json.dumps({"about": about, **(gated(options) if options.command == "gated" else points(options))}, indent=2))


def gated(options: argparse.Namespace) -> dict[str, object]:
    """Time the scores of all photos for all queries, the best draw of each."""
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(count, options.width), dim=1) for count in (options.queries, options.photos))
    gate = F.normalize(torch.randn(options.queries, options.draws, options.width), dim=2)
    gallery = plain_gallery(b)  # once, when photos are indexed
    few = max(1, ROWS // options.draws)

    def ours() -> None:
        for start in range(0, options.queries, few):
            rows = slice(start, start + few)
            (gated_query(a[rows], gate[rows]).flatten(0, 1) @ gallery.T).unflatten(0, (-1, options.draws)).amax(1)

    ready = gated_query(a[:few], gate[:few]).flatten(0, 1)

    def product() -> None:
        for _ in range(0, options.queries, few):
            ready @ gallery.T

    def naive() -> None:
        for draw in range(FEW):
            w = 1 + gate[0, draw % options.draws]
            (w * a[0] - w * b).square().sum(1)

    multiple = options.queries * options.draws / FEW
    return {
        "over its matrix product": ratios(ours, product, options.repeats),
        "re-weighting over ours": ratios(naive, ours, options.repeats, scale=multiple),
        "re-weighting": f"timed on {FEW} draws, times {multiple:.0f}",
        "numbers a photo": 2 * options.width + 1,
    }


def points(options: argparse.Namespace) -> dict[str, object]:
    """Time points and pooling of a batch whose drawings cover a twentieth of the sheet, beside the backbone's forward."""
    torch.manual_seed(0)
    backbone = timm.create_model("resnet50", num_classes=0).eval().to(memory_format=torch.channels_last)
    images = torch.rand(options.batch, 3, options.size, options.size).to(memory_format=torch.channels_last)
    lines = torch.rand(options.batch, options.size, options.size) < 0.05
    features = backbone.forward_features(images)
    cells = (features.shape[2], features.shape[3])
    landmarks = farthest_points(lines, options.landmarks)

    def forward() -> None:
        backbone.forward_features(images)

    return {
        "points over the forward": ratios(lambda: farthest_points(lines, options.landmarks), forward, options.repeats),
        "pooling over the forward": ratios(
            lambda: landmark_pool(features, project(landmarks, (options.size, options.size), cells)), forward, options.repeats
        ),
    }


def ratios(one: Callable[[], object], other: Callable[[], object], repeats: int, *, scale: float = 1.0) -> dict[str, float]:
    """Time of `one`, times `scale`, over that of `other`: the quartiles of neighbours' ratios, and the ratio of the best times."""
    for call in (one, other):  # warm-up
        call()
    times = [(seconds(one) * scale, seconds(other)) for _ in range(repeats)]
    low, median, high = statistics.quantiles([a / b for a, b in times], n=4)
    best = min(a for a, _ in times) / min(b for _, b in times)
    return {"median": round(median, 4), "low": round(low, 4), "high": round(high, 4), "best over best": round(best, 4)}


if __name__ == "__main__":
    main()
