"""Does the synthetic set measure something? Every check of docs/synthetic.md with its bound, and the contact sheet.

python benchmarks/synthetic.py                 # everything; on two cores the training takes most of the time
python benchmarks/synthetic.py --steps 0       # what needs no training
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
    """One line of the table: a value and the bounds it must keep."""

    name: str
    value: float
    low: float = -np.inf
    high: float = np.inf

    def __str__(self) -> str:
        bound = " ".join([f"> {self.low:.4g}" * bool(self.low > -np.inf), f"< {self.high:.4g}" * bool(self.high < np.inf)]).strip()
        return f"| {self.name} | {self.value:.4g} | {bound} | {'yes' if self.low <= self.value <= self.high else 'NO'} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--categories", type=int, default=50)
    options.add_argument("--unseen", type=int, default=10)
    options.add_argument("--instances", type=int, default=40)
    options.add_argument("--sketches", type=int, default=2)
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--steps", type=int, default=6000, help="of training; 0: none")
    options.add_argument("--device", default=None)
    options.add_argument("--out", type=Path, default=Path("runs/synthetic"), help="where training saves itself, and goes on from")
    options.add_argument("--sheet", type=Path, default=Path(__file__).parent.parent / "docs/images/synthetic.png")
    given = vars(options.parse_args())
    steps, device, out, sheet = (given.pop(name) for name in ("steps", "device", "out", "sheet"))
    dataset = synthetic(**given)
    print(f"{dataset.describe()}\n{given} steps={steps}")
    print(f"python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}, pillow {PIL.__version__}\n")
    sheet.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(synthetic(**given | {"size": SHEET})).quantize(256).save(sheet, optimize=True)
    print("| check | value | bound | met |\n| --- | ---: | --- | --- |")
    for check in chain(speed(given["seed"]), shortcuts(dataset), learned(given, steps, device, out) if steps else ()):
        print(check, flush=True)


def speed(seed: int) -> Iterator[Check]:
    """Images a second of one core at 96 px, each at its best of five times, as others may share the machine."""
    dataset = synthetic(size=96, seed=seed)
    seconds = {}
    for name, items in (("photos", dataset.photos), ("sketches", dataset.sketches)):
        rows = range(0, len(items), len(items) // 100)
        seconds[name] = sum(fastest(items, i) for i in rows) / len(rows)
        yield Check(f"{name} a second and core, 96 px", 1 / seconds[name])
    yield Check("images a second and core, 96 px (a photo to two sketches)", 3 / (seconds["photos"] + 2 * seconds["sketches"]), low=400)


def fastest(dataset: Dataset, i: int) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        dataset.read(i)
        times.append(time.perf_counter() - started)
    return min(times)


def shortcuts(dataset: Dataset) -> Iterator[Check]:
    """Retrieval of unseen categories by features that do not know the object."""
    lucky = retrieve(dataset.test, blank)
    yield Check("mAP@all by chance", lucky)
    for name, feature in SHORTCUTS.items():
        yield Check(f"{name}: mAP@all / chance", retrieve(dataset.test, feature) / lucky, high=4.0 if name == "HOG" else 1.5)


def retrieve(dataset: Dataset, feature: Feature) -> float:
    """mAP@all of sketches against photos under the Euclidean distance of a feature, as standard scores within each modality."""
    queries, gallery = (described(part, feature) for part in (dataset.sketches, dataset.photos))
    return Category(metrics=["mAP@all"]).evaluate(
        queries=Encoded(torch.cat([2 * queries.vectors, -torch.ones(len(queries), 1)], 1)[:, None], *labels(queries)),
        gallery=Encoded(torch.cat([gallery.vectors, gallery.vectors.square().sum(1, keepdim=True)], 1), *labels(gallery)),
    )["mAP@all"]


def blank(image: Image.Image) -> Any:
    """All photos tie: the expected score of a random ranking."""
    return np.zeros(1)


def described(dataset: Dataset, feature: Feature) -> Encoded:
    values = np.stack([feature(dataset.read(i)) for i in range(len(dataset))])
    values = (values - values.mean(0)) / (values.std(0) + 1e-9)
    ints = [torch.from_numpy(column) for column in (dataset.modality, dataset.category, dataset.instance)]
    return Encoded(torch.from_numpy(values).float(), *ints)


def labels(encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return encoded.modality, encoded.category, encoded.instance


def learned(given: dict[str, Any], steps: int, device: str | None, out: Path) -> Iterator[Check]:
    """Networks from scratch: untrained, and a small one after training on the seen categories; and what makes its work harder."""
    dataset = synthetic(**given)
    lucky, photos = retrieve(dataset.test, blank), len(dataset.test.photos)
    pipeline = network(SMALL, given["size"], steps)
    before = measured(network(UNTRAINED, given["size"], steps), dataset, device)
    pipeline.fit(dataset, out=out, resume=True, save_every=50, device=device, tensorboard=False)
    after = measured(pipeline, dataset, device)
    yield Check("untrained resnet18: mAP@all / chance", before["mAP@all"] / lucky, high=2)
    yield Check("trained: mAP@all / chance", after["mAP@all"] / lucky, low=5)
    yield Check("trained: mAP@all", after["mAP@all"], high=0.9)
    yield Check("untrained resnet18: instance Acc@1 / chance", before["Acc@1"] * photos, high=3)
    yield Check("trained: instance Acc@1 / chance", after["Acc@1"] * photos, low=10)
    yield Check("trained: instance Acc@1", after["Acc@1"], high=0.9)
    previous = np.inf
    free = abstraction(dataset)
    for low, high in ((0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)):
        rows = (dataset.modality == 1) | (free >= low) & (free < high)
        value = measured(pipeline, dataset.subset(rows), device)["mAP@all"]
        yield Check(f"trained: mAP@all, abstraction {low:.2f} to {high:.2f}", value, high=previous)
        previous = value
    for part in ("distractors", "turn"):
        easier = measured(pipeline, synthetic(**given | {part: False}), device)["mAP@all"]
        yield Check(f"trained: mAP@all without {part}", easier, low=after["mAP@all"])
    other = measured(pipeline, synthetic(**given, style_seed=given["seed"] + 1), device)["mAP@all"]
    yield Check("trained: change of mAP@all with all styles swapped", abs(other - after["mAP@all"]), high=0.03)


def network(encoder: dict[str, Any], size: int, steps: int) -> Pipeline:
    """A network from scratch that learns to name the seen categories: hard triplets hold it up for longer than this trains."""
    return build(
        "mathm-ce",
        encoder={"name": "backbone", "pretrained": False, "dim": 128, **encoder},
        transform={"size": size},
        sampler={"categories": 8, "per_modality": 4},
        evaluators={"category": {"metrics": ["mAP@all"]}, "instance": {"metrics": ["Acc@1"]}},
        **{"phases.0": {"steps": steps, "optimizer": {"lr": 3e-3}, "schedule": {"warmup": 20}, "parameters": []}},
    )


def measured(pipeline: Pipeline, dataset: Dataset, device: str | None) -> dict[str, float]:
    return pipeline.evaluate(dataset, device=device, progress=False)


def contact_sheet(dataset: Dataset, rows: int = 10) -> Image.Image:
    """A row for a category: three photos, each followed by two sketches of it."""
    side, gap = SHEET, 4
    sheet = Image.new("RGB", (9 * (side + gap) + gap, rows * (side + gap) + gap), "white")
    photos, sketches = dataset.photos, dataset.sketches
    for row in range(rows):
        own = np.flatnonzero(photos.category == row)[:3]
        shown = [(photos, own_photo) for own_photo in own]
        pictures = []
        for part, i in shown:
            drawn = np.flatnonzero(sketches.instance == part.instance[i])[:2]
            pictures += [part.read(i), *(sketches.read(j) for j in drawn)]
        for column, picture in enumerate(pictures):
            place = (gap + column * (side + gap), gap + row * (side + gap))
            sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), place)
    return sheet


if __name__ == "__main__":
    main()
