"""Room for descriptors: the best diagonal gate of each category, and its gain in Acc@1 over vectors without one.

    SBIRLIB_DATA=FOLDER python -m benchmarks.experiments.vtd_oracle --data synthetic shoe304 qmul_v1     # some minutes on two cores

A descriptor may at best find the gate that suits a category (Pang et al. 2019, section 3.2). Here that gate, psi(x) = g * F(x) at unit length, is
fitted by InfoNCE on vectors F that do not change, of a frozen EfficientNet-lite0 at 96 px or of --model, among the photos of a category:

    all pairs      on the category's own pairs, which are then asked for: an oracle, which no descriptor can reach
    half of them   on the pairs of half of its instances, for the sketches of the others, in turn: fair to the category, with its labels
    others         on all categories but this one: a gate without a descriptor

Each penalty on log g is fitted apart, and the best of them counts, which flatters the gates. Where even the oracle gains less than 2 points,
or the half no more than the others, descriptors cannot show on this data.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.timing import processor
from sbirlib import Pipeline, build, folder, from_lists, load, synthetic
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.losses.info_nce import info_nce
from sbirlib.progress import track
from sbirlib.retrieval.paired import Difference, paired
from sbirlib_vtd.gate import gated_cosines

TEMPERATURE, RATE, POINTS = 0.05, 0.05, 0.02
WEIGHTS = "weights/tf_efficientnet_lite0_fp16.safetensors"


@dataclass(frozen=True)
class Pairs:
    """Vectors of one category: sketches [Q, V] and photos [G, V], and the mask [Q, G] of the photos that a sketch is drawn of."""

    sketches: Tensor
    photos: Tensor
    same: Tensor

    def of_photos(self, photos: Tensor) -> Pairs:
        """Photos of these numbers [g], with their sketches."""
        own = self.same[:, photos].any(1)
        return Pairs(self.sketches[own], self.photos[photos], self.same[own][:, photos])

    def cosines(self, log_gate: Tensor) -> Tensor:
        """Cosines [Q, G] of the vectors under a gate, g = exp(log_gate) [V]."""
        return gated_cosines(self.sketches, (log_gate.exp() - 1).expand_as(self.sketches), self.photos)

    def hits(self, log_gate: Tensor) -> Tensor:
        """Acc@1 of each sketch [Q], 0 or 1, among the photos of the category; a tie is a miss."""
        cosines = self.cosines(log_gate)
        own, other = (cosines.masked_fill(mask, -2).amax(1) for mask in (~self.same, self.same))
        return (own > other).double()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=["synthetic", "shoe304", "qmul_v1"], default=["synthetic"])
    parser.add_argument("--model", type=Path, help="trained pipeline whose vectors are taken, one a sketch; else the frozen network")
    parser.add_argument("--categories", type=int, default=60, help="of the synthetic set")
    parser.add_argument("--unseen", type=int, default=20, help="of these, the categories that are asked for")
    parser.add_argument("--instances", type=int, default=40, help="of each category of the synthetic set")
    parser.add_argument("--penalties", type=float, nargs="+", default=[0.1, 1.0, 10.0], help="on the mean square of log g")
    parser.add_argument("--steps", type=int, default=100, help="of Adam for each gate")
    options = parser.parse_args()
    root = Path(os.environ.get("SBIRLIB_DATA", ""))
    if not (root / WEIGHTS).is_file() or "SBIRLIB_DATA" not in os.environ:
        raise InputError("set SBIRLIB_DATA to the folder that holds shoe304, qmul_v1 and weights")
    pipeline = load(options.model) if options.model else frozen(root)
    about = {"model": options.model.name if options.model else "tf_efficientnet_lite0, frozen, 96 px", "seed": 0}
    about |= {name: getattr(options, name) for name in ("categories", "unseen", "instances", "penalties", "steps")}
    print(json.dumps(about | {"processor": processor(), "torch": torch.__version__, "python": platform.python_version()}))
    for name in options.data:
        world = dict(categories=options.categories, unseen=options.unseen, instances=options.instances)
        data = synthetic(**world, size=96, difficulty=0.0, distractors=False, turn=False).test if name == "synthetic" else real(name, root)
        report(data, pairs_of(pipeline, data), options.penalties, options.steps)


def frozen(root: Path) -> Pipeline:
    """The frozen network without its classifier."""
    encoder = {"name": "backbone", "backbone": "tf_efficientnet_lite0", "dim": 0, "weights": str(root / WEIGHTS)}
    return build({"name": "frozen", "encoder": encoder, "losses": {}, "phases": [], "transform": {"name": "sbir", "size": 96}})


def real(name: str, root: Path) -> Dataset:
    """A set of real pairs; qmul_v1 has the edge maps of its photos in their places, and its test pairs are taken."""
    if name == "shoe304":
        return folder(root / "shoe304")
    with np.load(root / "qmul_v1" / "qmul_v1_edges_sketches.npz", allow_pickle=False) as arrays:
        rows = {
            side: [
                (image, category, f"{category} {i}")
                for category in ("shoes", "chairs", "handbags")
                for i, image in enumerate(arrays[f"{category}_{side}_db_test"])
            ]
            for side in ("sketch", "edge")
        }
    return from_lists("qmul_v1", sketches=rows["sketch"], photos=rows["edge"])


def pairs_of(pipeline: Pipeline, data: Dataset) -> list[Pairs]:
    """Vectors of each category, encoded once."""
    queries, gallery = pipeline.encode(data, progress=True)
    if queries.vectors.shape[1] != 1 or not torch.allclose(gallery.vectors.norm(dim=1), torch.ones(len(gallery)), atol=1e-3):
        raise InputError("gates are fitted on one vector of unit length an image: take a model without gates, such as hard-transfer")
    categories = []
    for category in gallery.category.unique():
        sketches, photos = queries[queries.category == category], gallery[gallery.category == category]
        categories.append(Pairs(sketches.vectors[:, 0], photos.vectors, sketches.instance[:, None] == photos.instance))
    return categories


def fitted(categories: Sequence[Pairs], penalty: float, steps: int) -> Tensor:
    """log g [V] of the one gate that suits these categories: least InfoNCE, the mean over them, and penalty mean (log g)^2, by Adam from g = 1."""
    log_gate = torch.zeros(categories[0].photos.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([log_gate], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        losses = torch.stack([info_nce(pairs.cosines(log_gate) / TEMPERATURE, pairs.same) for pairs in categories])
        (losses.mean() + penalty * log_gate.square().mean()).backward()
        optimizer.step()
    return log_gate.detach()


def hits_by_halves(pairs: Pairs, penalty: float, steps: int) -> Tensor:
    """Acc@1 of each sketch [Q] under the gate that the other half of the instances fits, among all photos."""
    photos = torch.randperm(len(pairs.photos), generator=torch.Generator().manual_seed(0))
    hits = torch.zeros(len(pairs.sketches), dtype=torch.float64)
    for half in photos.chunk(2):
        own = pairs.same[:, half].any(1)
        hits[~own] = pairs.hits(fitted([pairs.of_photos(half)], penalty, steps))[~own]
    return hits


def hits_by_gate(categories: Sequence[Pairs], penalty: float, steps: int) -> dict[str, Tensor]:
    """Acc@1 of all sketches [Q] by the pairs that fit their gate."""
    rows: dict[str, list[Tensor]] = {"all pairs": [], "half of them": [], "others": []}
    for i, pairs in enumerate(track(categories, total=len(categories), label=f"gates, penalty {penalty:g}")):
        others = [*categories[:i], *categories[i + 1 :]]
        rows["all pairs"].append(pairs.hits(fitted([pairs], penalty, steps)))
        rows["half of them"].append(hits_by_halves(pairs, penalty, steps))
        if others:
            rows["others"].append(pairs.hits(fitted(others, penalty, steps)))
    return {name: torch.cat(hits) for name, hits in rows.items() if hits}


def report(data: Dataset, categories: Sequence[Pairs], penalties: Sequence[float], steps: int) -> None:
    """Print Acc@1 without a gate and under each, gains with their 95 % intervals over categories and sketches, and the verdict."""
    number = [i for i, pairs in enumerate(categories) for _ in pairs.sketches]
    plain = torch.cat([pairs.hits(torch.zeros(pairs.photos.shape[1])) for pairs in categories])
    print(f"\n{data.describe()}\n| gate | penalty | Acc@1 | gain |\n| --- | ---: | ---: | --- |\n| none | | {plain.mean():.3f} | |")
    best: dict[str, Tensor] = {}
    for penalty in penalties:
        for name, hits in hits_by_gate(categories, penalty, steps).items():
            gain = paired({0: hits.tolist()}, {0: plain.tolist()}, number)
            print(f"| {name} | {penalty:g} | {hits.mean():.3f} | {shown(gain)} |", flush=True)
            best[name] = max(best.get(name, hits), hits, key=lambda values: float(values.mean()))
    print(verdict(best, plain, number))


def verdict(best: dict[str, Tensor], plain: Tensor, number: Sequence[int]) -> str:
    """Sentence on whether descriptors can show, from Acc@1 [Q] under the best gates and under `plain`, the best without a descriptor."""
    oracle = paired({0: best["all pairs"].tolist()}, {0: plain.tolist()}, number)
    if oracle.mean < POINTS:
        return f"Descriptors cannot show here: the oracle gains {shown(oracle)}, less than {POINTS:g}."
    reference = max(plain, best.get("others", plain), key=lambda values: float(values.mean()))
    fair = paired({0: best["half of them"].tolist()}, {0: reference.tolist()}, number)
    if fair.mean < POINTS or not fair.significant:
        return f"Descriptors can hardly show here: a category's own gate gains {shown(fair)} over the best gate without its labels, or over none."
    return f"Descriptors may show here: a category's own gate gains {shown(fair)} over the best gate without its labels, or over none."


def shown(difference: Difference) -> str:
    """A difference with its interval."""
    return f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


if __name__ == "__main__":
    main()
