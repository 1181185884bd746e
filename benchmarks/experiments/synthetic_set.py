"""Validity of the synthetic set: every check of docs/synthetic.md with its bound, and the contact sheet.

python -m benchmarks.experiments.synthetic_set                 # all checks; on two cores the training takes most of the time
python -m benchmarks.experiments.synthetic_set --steps 0       # the checks without training
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

from sbirlib import Pipeline, build
from sbirlib.data.dataset import Dataset
from sbirlib.data.synthetic import abstraction, synthetic
from sbirlib.data.synthetic.shortcuts import SHORTCUTS
from sbirlib.interfaces import Encoded
from sbirlib.retrieval.evaluators import Category

SHEET = 96  # pixels of a picture on the contact sheet
UNTRAINED = {"backbone": "resnet18"}
SMALL = {"backbone": "resnet10t", "timm_options": {"stem_type": "", "channels": [32, 64, 128, 256]}}
Feature = Callable[[Image.Image], Any]


@dataclass(frozen=True)
class Check:
    """A value with its bounds: one line of the table."""

    name: str
    value: float
    low: float = -np.inf
    high: float = np.inf

    def __str__(self) -> str:
        bound = " ".join([f"> {self.low:.4g}" * bool(self.low > -np.inf), f"< {self.high:.4g}" * bool(self.high < np.inf)]).strip()
        return f"| {self.name} | {self.value:.4g} | {bound} | {'yes' if self.low <= self.value <= self.high else 'NO'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--categories", type=int, default=50)
    parser.add_argument("--unseen", type=int, default=10)
    parser.add_argument("--instances", type=int, default=40)
    parser.add_argument("--sketches", type=int, default=2)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6000, help="training steps; 0: no training")
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/synthetic"), help="folder of the training run, which resumes")
    parser.add_argument("--sheet", type=Path, default=Path(__file__).parent.parent.parent / "docs/images/synthetic.png")
    world = vars(parser.parse_args())
    steps, device, out, sheet = (world.pop(name) for name in ("steps", "device", "out", "sheet"))
    dataset = synthetic(**world)
    print(f"{dataset.describe()}\n{world} steps={steps}")
    print(f"python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}, pillow {PIL.__version__}\n")
    sheet.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(synthetic(**world | {"size": SHEET})).quantize(256).save(sheet, optimize=True)
    print("| check | value | bound | met |\n| --- | ---: | --- | --- |")
    for check in chain(speed(world["seed"]), shortcuts(dataset), training(world, steps, device, out) if steps else ()):
        print(check, flush=True)


def speed(seed: int) -> Iterator[Check]:
    """Images a second of one core at 96 px, from the best of five times of each image, because other programs may run."""
    dataset = synthetic(size=96, seed=seed)
    seconds = {}
    for name, items in (("photos", dataset.photos), ("sketches", dataset.sketches)):
        rows = range(0, len(items), len(items) // 100)
        seconds[name] = sum(fastest(items, i) for i in rows) / len(rows)
        yield Check(f"{name} a second and core, 96 px", 1 / seconds[name])
    yield Check("images a second and core, 96 px (a photo to two sketches)", 3 / (seconds["photos"] + 2 * seconds["sketches"]), low=400)


def fastest(dataset: Dataset, i: int) -> float:
    """Best of five times to read an image, in seconds."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        dataset.read(i)
        times.append(time.perf_counter() - start)
    return min(times)


def shortcuts(dataset: Dataset) -> Iterator[Check]:
    """Retrieval of unseen categories by features that ignore the object, such as colour."""
    chance = retrieve(dataset.test, blank)
    yield Check("mAP@all by chance", chance)
    for name, feature in SHORTCUTS.items():
        yield Check(f"{name}: mAP@all / chance", retrieve(dataset.test, feature) / chance, high=4.0 if name == "HOG" else 1.5)


def retrieve(dataset: Dataset, feature: Feature) -> float:
    """mAP@all of sketches against photos, by the Euclidean distance of a feature that is standardised within each modality."""
    queries, gallery = (extract(side, feature) for side in (dataset.sketches, dataset.photos))
    return Category(metrics=["mAP@all"]).evaluate(
        queries=Encoded(torch.cat([2 * queries.vectors, -torch.ones(len(queries), 1)], 1)[:, None], *labels(queries)),
        gallery=Encoded(torch.cat([gallery.vectors, gallery.vectors.square().sum(1, keepdim=True)], 1), *labels(gallery)),
    )["mAP@all"]


def blank(image: Image.Image) -> Any:
    """Constant feature: all photos tie, which gives the expected score of a random ranking."""
    return np.zeros(1)


def extract(dataset: Dataset, feature: Feature) -> Encoded:
    """Standardised features [N, F] of all images."""
    values = np.stack([feature(dataset.read(i)) for i in range(len(dataset))])
    values = (values - values.mean(0)) / (values.std(0) + 1e-9)
    ints = [torch.from_numpy(column) for column in (dataset.modality, dataset.category, dataset.instance)]
    return Encoded(torch.from_numpy(values).float(), *ints)


def labels(encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Modality, category and instance [N]."""
    return encoded.modality, encoded.category, encoded.instance


def training(world: dict[str, Any], steps: int, device: str | None, out: Path) -> Iterator[Check]:
    """Networks from scratch: an untrained one, a small one trained on the seen categories, and the effect of each difficulty on it."""
    dataset = synthetic(**world)
    chance, photos = retrieve(dataset.test, blank), len(dataset.test.photos)
    pipeline = network(SMALL, world["size"], steps)
    before = evaluate(network(UNTRAINED, world["size"], steps), dataset, device)
    pipeline.fit(dataset, out=out, resume=True, save_every=50, device=device, tensorboard=False)
    after = evaluate(pipeline, dataset, device)
    yield Check("untrained resnet18: mAP@all / chance", before["mAP@all"] / chance, high=2)
    yield Check("trained: mAP@all / chance", after["mAP@all"] / chance, low=5)
    yield Check("trained: mAP@all", after["mAP@all"], high=0.9)
    yield Check("untrained resnet18: instance Acc@1 / chance", before["Acc@1"] * photos, high=3)
    yield Check("trained: instance Acc@1 / chance", after["Acc@1"] * photos, low=10)
    yield Check("trained: instance Acc@1", after["Acc@1"], high=0.9)
    previous = np.inf
    free = abstraction(dataset)
    for low, high in ((0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)):
        rows = (dataset.modality == 1) | (free >= low) & (free < high)
        value = evaluate(pipeline, dataset.subset(rows), device)["mAP@all"]
        yield Check(f"trained: mAP@all, abstraction {low:.2f} to {high:.2f}", value, high=previous)
        previous = value
    for difficulty in ("distractors", "turn"):
        easier = evaluate(pipeline, synthetic(**world | {difficulty: False}), device)["mAP@all"]
        yield Check(f"trained: mAP@all without {difficulty}", easier, low=after["mAP@all"])
    other = evaluate(pipeline, synthetic(**world, style_seed=world["seed"] + 1), device)["mAP@all"]
    yield Check("trained: change of mAP@all with all styles swapped", abs(other - after["mAP@all"]), high=0.03)


def network(encoder: dict[str, Any], size: int, steps: int) -> Pipeline:
    """A network from scratch with a classification loss, because hard triplets delay its training beyond the steps of this check."""
    return build(
        "mathm-ce",
        encoder={"name": "backbone", "pretrained": False, "dim": 128, **encoder},
        transform={"size": size},
        sampler={"categories": 8, "per_modality": 4},
        evaluators={"category": {"metrics": ["mAP@all"]}, "instance": {"metrics": ["Acc@1"]}},
        **{"phases.0": {"steps": steps, "optimizer": {"lr": 3e-3}, "schedule": {"warmup": 20}, "parameters": []}},
    )


def evaluate(pipeline: Pipeline, dataset: Dataset, device: str | None) -> dict[str, float]:
    """mAP@all and instance-level Acc@1."""
    return pipeline.evaluate(dataset, device=device, progress=False)


def contact_sheet(dataset: Dataset, rows: int = 10) -> Image.Image:
    """One row a category: three photos, each followed by two sketches of it."""
    side, gap = SHEET, 4
    sheet = Image.new("RGB", (9 * (side + gap) + gap, rows * (side + gap) + gap), "white")
    photos, sketches = dataset.photos, dataset.sketches
    for row in range(rows):
        own = np.flatnonzero(photos.category == row)[:3]
        pictures = []
        for i in own:
            of_photo = np.flatnonzero(sketches.instance == photos.instance[i])[:2]
            pictures += [photos.read(i), *(sketches.read(j) for j in of_photo)]
        for column, picture in enumerate(pictures):
            corner = (gap + column * (side + gap), gap + row * (side + gap))
            sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), corner)
    return sheet


if __name__ == "__main__":
    main()
