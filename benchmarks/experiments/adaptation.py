"""Gain of an index from its users' judgements: right photos among the first ten, before and after `adapt`, for other drawings.

    SBIRLIB_DATA=FOLDER python -m benchmarks.experiments.adaptation          # about five minutes on two cores

Photos: all of qdphoto, 61 classes, encoded by a frozen EfficientNet-lite0 at 96 px without its classifier. Drawings: those of quickdraw345 of these
classes, as strokes. A simulated user draws, says yes to the photos of the drawing's class among the first six and no to the others, and, where none
is right, finds one further down. Users draw 46 of the classes; the other drawings that are then searched are of these classes, and of the 15 that
no one has drawn (split `zero_shot_15`).
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.timing import processor
from sbirlib import build, open_index
from sbirlib.adaptation import adapt
from sbirlib.data.judgements import Judgements
from sbirlib.data.strokes import Drawing, Stroke, render
from sbirlib.errors import InputError
from sbirlib.search import SearchIndex

NUMBERS, TESTED, SHOWN, K = (60, 200), 200, 6, 10
WIDTH = 0.018  # of QuickDraw's strokes


def main() -> None:
    root = Path(os.environ.get("SBIRLIB_DATA", ""))
    if not (root / "qdphoto").is_dir() or "SBIRLIB_DATA" not in os.environ:
        raise InputError("set SBIRLIB_DATA to the folder that holds qdphoto, quickdraw345 and weights")
    weights = str(root / "weights" / "tf_efficientnet_lite0_fp16.safetensors")
    encoder = {"name": "backbone", "backbone": "tf_efficientnet_lite0", "dim": 0, "weights": weights}
    pipeline = build({"name": "frozen", "encoder": encoder, "losses": {}, "phases": [], "transform": {"name": "sbir", "size": 96}})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        index = pipeline.index(root / "qdphoto" / "photo")
        drawings = drawings_of(root, {str(record["category"]) for record in index.index.all_records()})
        unseen = set(json.loads((root / "splits.json").read_text())["qdphoto"]["zero_shot_15"]["unseen"])
        others = [(c, d) for c, d in drawings if c not in unseen]
        tests = {"drawn classes": others[max(NUMBERS) :][:TESTED], "undrawn classes": [(c, d) for c, d in drawings if c in unseen][:TESTED]}
        rows = {}
        for number in NUMBERS:
            index.save(place / str(number))
            judge(index, others[:number], place / f"{number}.jsonl")
            result = adapt(place / str(number), place / f"{number}.jsonl")
            adapted = open_index(place / str(number))
            rows[number] = {
                "saved": result.helps,
                "bpref": [round(value, 3) for value in (result.before, result.control, result.after)],
                **{name: [round(precision(one, own), 3) for one in (index, adapted)] for name, own in tests.items()},
            }
            print(number, rows[number])
    about = {"photos": len(index), "tested": TESTED, "k": K, "seed": 0, "processor": processor(), "torch": torch.__version__}
    print(json.dumps({"judged drawings": rows, **about, "python": platform.python_version()}, indent=1))


def drawings_of(root: Path, classes: set[str]) -> list[tuple[str, Drawing]]:
    """The drawings of these classes, shuffled: each with its class."""
    drawings = []
    with gzip.open(root / "quickdraw345" / "strokes.ndjson.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            name = row["class"] if row["class"] in classes else row["class"].replace("_", " ")
            if name in classes:
                drawings.append((name, of_strokes(row["drawing"])))
    return [drawings[i] for i in np.random.default_rng(0).permutation(len(drawings))]


def of_strokes(strokes: list[list[list[float]]]) -> Drawing:
    """A drawing in the middle nine tenths of the sheet, from lists of x and of y."""
    points = [np.array(stroke[:2], dtype=float).T for stroke in strokes]
    whole = np.concatenate(points)
    low, extent = whole.min(0), max(float(np.ptp(whole, axis=0).max()), 1.0)
    return Drawing(strokes=[Stroke(points=(0.05 + 0.9 * (line - low) / extent).tolist(), width=WIDTH) for line in points])


def judge(index: SearchIndex, drawings: list[tuple[str, Drawing]], file: Path) -> None:
    """Judgements of the first photos for each drawing."""
    judgements, random = Judgements(file), np.random.default_rng(1)
    records: list[Any] = list(index.index.all_records())
    for name, drawing in drawings:
        hits = index.search(render(drawing, index.transform), k=SHOWN)
        for hit in hits:
            judgements.keep(drawing, hit.path, "yes" if hit.category == name else "no", index.digest)
        if all(hit.category != name for hit in hits):
            paths = [str(record["path"]) for record in records if record["category"] == name]
            judgements.keep(drawing, paths[random.integers(len(paths))], "yes", index.digest)


def precision(index: SearchIndex, drawings: list[tuple[str, Drawing]]) -> float:
    """Mean share of right photos among the first ten."""
    hits = index.search_all([render(drawing, index.transform) for _, drawing in drawings], k=K)
    return float(np.mean([[hit.category == name for hit in row] for row, (name, _) in zip(hits, drawings, strict=True)]))


if __name__ == "__main__":
    main()
