"""Dictionary rows with the sketches assigned to them, and the spread of categories over rows (Pang et al. 2019, figure 1)."""

from __future__ import annotations

import torch
from PIL import Image

from sbirlib.data.batches import Prepared, load
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.pipeline import Pipeline
from sbirlib.progress import track
from sbirlib.visual.columns import columns
from sbirlib.visual.layout import to_pictures
from sbirlib_vtd.descriptor import Descriptor

BATCH = 256


def traits(pipeline: Pipeline, dataset: Dataset, *, rows: int = 6, examples: int = 6) -> Image.Image:
    """The most frequent dictionary rows, a column each, headed by the number of sketches of training and of unseen categories.

    Sketches of training categories come first, then those of unseen ones, of as many different categories as possible.
    """
    assignments = {split: _assignment(pipeline, dataset.select(split).sketches) for split in ("train", "test")}
    frequent = torch.bincount(torch.cat(list(assignments.values()))).argsort(descending=True)[:rows]
    pictures: dict[str, list[Image.Image]] = {}
    for row in frequent.tolist():
        column: list[Image.Image] = []
        for split, assignment in assignments.items():
            sketches = dataset.select(split).sketches
            indices = _categories_in_turn((assignment == row).nonzero()[:, 0].tolist(), sketches)[:examples]
            images = [pipeline.transform.prepare(sketches.read(i), int(sketches.modality[i])) for i in indices]
            blank = torch.full((3, pipeline.transform.size, pipeline.transform.size), 255, dtype=torch.uint8)
            column += to_pictures(torch.stack([*images, *[blank] * (examples - len(images))]).float() / 255)
        pictures[f"{row}: " + " + ".join(str(int((own == row).sum())) for own in assignments.values())] = column
    return columns(pictures)


def spread(pipeline: Pipeline, dataset: Dataset) -> dict[str, tuple[float, float]]:
    """Number of different rows of a category's sketches: mean and standard deviation over categories, by split (section 4.3)."""
    moments: dict[str, tuple[float, float]] = {}
    for split in ("train", "test"):
        sketches = dataset.select(split).sketches
        assignment, category = _assignment(pipeline, sketches), torch.from_numpy(sketches.category)
        counts = torch.tensor([float(len(assignment[category == c].unique())) for c in category.unique()])
        moments[split] = float(counts.mean()), float(counts.std(correction=0))
    return moments


def _assignment(pipeline: Pipeline, sketches: Dataset) -> torch.Tensor:
    """Dictionary row [n] of each sketch."""
    descriptor = getattr(pipeline.encoder, "descriptor", pipeline.encoder)
    if not isinstance(descriptor, Descriptor):
        raise InputError("this model has no dictionary: figure 1 is of the encoder descriptor, alone or in adaptive")
    descriptor.eval()
    with torch.inference_mode():
        rows = [list(range(start, min(start + BATCH, len(sketches)))) for start in range(0, len(sketches), BATCH)]
        batches = load(Prepared(sketches, pipeline.transform), rows, seed=0, epoch=0, augment=False)
        return torch.cat([descriptor(batch).rows["assignment"].argmax(1) for batch in track(batches, total=len(rows), label="descriptors")])


def _categories_in_turn(indices: list[int], sketches: Dataset) -> list[int]:
    """The same indices, one of each category first, then a second of each."""
    turn: dict[int, int] = {}

    def key(index: int) -> int:
        category = int(sketches.category[index])
        turn[category] = turn.get(category, -1) + 1
        return turn[category]

    return sorted(indices, key=key)
