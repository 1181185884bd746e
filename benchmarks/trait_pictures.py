"""Rows of the dictionary with the sketches that took them, and how categories spread over the rows (Pang et al. 2019, figure 1)."""

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

AT_ONCE = 256


def traits(pipeline: Pipeline, dataset: Dataset, *, rows: int = 6, examples: int = 6) -> Image.Image:
    """The rows that most sketches took, a column each, headed by how many sketches of trained and of unseen categories did: sketches of
    trained categories first, then of unseen ones, of as many categories as there are."""
    taken = {role: _taken(pipeline, dataset.part(role).sketches) for role in ("train", "test")}
    most = torch.bincount(torch.cat(list(taken.values()))).argsort(descending=True)[:rows]
    shown: dict[str, list[Image.Image]] = {}
    for row in most.tolist():
        found: list[Image.Image] = []
        for role, own in taken.items():
            sketches = dataset.part(role).sketches
            chosen = _of_many_categories((own == row).nonzero()[:, 0].tolist(), sketches)[:examples]
            images = [pipeline.transform.prepare(sketches.read(i), int(sketches.modality[i])) for i in chosen]
            blank = torch.full((3, pipeline.transform.size, pipeline.transform.size), 255, dtype=torch.uint8)
            found += to_pictures(torch.stack([*images, *[blank] * (examples - len(images))]).float() / 255)
        shown[f"{row}: " + " + ".join(str(int((own == row).sum())) for own in taken.values())] = found
    return columns(shown)


def spread(pipeline: Pipeline, dataset: Dataset) -> dict[str, tuple[float, float]]:
    """How many different rows the sketches of a category take, mean and standard deviation over categories, trained and unseen (section 4.3)."""
    found: dict[str, tuple[float, float]] = {}
    for role in ("train", "test"):
        sketches = dataset.part(role).sketches
        taken, category = _taken(pipeline, sketches), torch.from_numpy(sketches.category)
        counts = torch.tensor([float(len(taken[category == c].unique())) for c in category.unique()])
        found[role] = float(counts.mean()), float(counts.std(correction=0))
    return found


def _taken(pipeline: Pipeline, sketches: Dataset) -> torch.Tensor:
    """The row that each sketch took [n]."""
    descriptor = getattr(pipeline.encoder, "descriptor", pipeline.encoder)
    if not isinstance(descriptor, Descriptor):
        raise InputError("this model has no dictionary: figure 1 is of the encoder descriptor, alone or in adaptive")
    descriptor.eval()
    with torch.inference_mode():
        rows = [list(range(start, min(start + AT_ONCE, len(sketches)))) for start in range(0, len(sketches), AT_ONCE)]
        batches = load(Prepared(sketches, pipeline.transform), rows, seed=0, epoch=0, augment=False)
        return torch.cat([descriptor(batch).rows["assignment"].argmax(1) for batch in track(batches, total=len(rows), label="descriptors")])


def _of_many_categories(rows: list[int], sketches: Dataset) -> list[int]:
    """The same rows, one of each category first, then a second of each."""
    turn: dict[int, int] = {}

    def key(row: int) -> int:
        category = int(sketches.category[row])
        turn[category] = turn.get(category, -1) + 1
        return turn[category]

    return sorted(rows, key=key)
