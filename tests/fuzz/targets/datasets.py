"""Texts about datasets: manifest.csv, split files, lists of published datasets, and fields of photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tests.fuzz.targets import world
from tests.fuzz.targets.target import Target
from tests.fuzz.targets.texts import arguments

from sbirlib.cli.options import read_fields
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import folder as open_folder
from sbirlib.data.published.qmul import shoe_v2
from sbirlib.data.split import split
from sbirlib.data.split_file import RULE
from sbirlib.retrieval.indexes.flat import Flat

TRAIN = ["fish1", "fish2", "moon1", "moon2", "sun1", "sun2", "tree0", "tree1", "tree2"]
ENTRIES = {
    "zero": {"unseen": ["moon"], "validation": ["sun"]},
    "deeper": {
        "named": {"seen": ["sun", "tree", "fish"], "unseen": ["moon"], "validation": ["fish"]},
        "photos": {"test_photos": ["moon0", "sun0"], "validation_photos": ["fish0"], "train_photos": TRAIN, "left_out_sketches": []},
        "by_rule": {"rule": RULE, "train": 16, "test": 8},
    },
}


def described(dataset: Dataset) -> Any:
    """All that a dataset says of its images, but where they are."""
    keys = [dataset.key(i) for i in range(len(dataset))]
    columns = [dataset.modality.tolist(), dataset.category.tolist(), dataset.instance.tolist()]
    return [keys, list(dataset.categories), *columns, dataset.split_name, dataset.split_digest]


def make_manifest(folder: Path) -> None:
    world.plain_folder(folder / "files")
    rows = ["path,modality,class,instance_id"]
    for path in sorted((folder / "files").rglob("*.png")):
        rows.append(f"{path.relative_to(folder).as_posix()},{path.parent.parent.name},{path.parent.name},{path.stem.partition('-')[0]}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_splits(folder: Path) -> None:
    world.plain_folder(folder / "data")
    (folder / "splits.json").write_text(json.dumps(ENTRIES, indent=1), encoding="utf-8")


def answer_splits(folder: Path) -> Any:
    dataset = open_folder(folder / "data")
    names = ("zero", "deeper/named", "deeper/photos", "deeper/by_rule")
    return [described(split(dataset, f"{folder}/splits.json:{name}")) for name in names]


def make_shoes(folder: Path) -> None:
    dot = world.pictures()[1]
    for i in range(6):
        world.save_png(folder / "ShoeV2_photo" / f"{i}.png", dot)
        world.save_png(folder / "ShoeV2_sketch_png" / f"{i}_1.png", dot)
    for name, numbers in (("train", (0, 1, 2, 3)), ("test", (4, 5))):
        (folder / f"photo_{name}.txt").write_text("".join(f"{i}.png\n" for i in numbers), encoding="utf-8")


def make_fields(folder: Path) -> None:
    rows = ["path,year,share,new,album,category"]
    rows += [f'photos/{i}.jpg,{2000 + i},{i / 8},{"true" if i % 2 else "false"},"a, b {i}",cat' for i in range(6)]
    (folder / "fields.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "path.txt").write_text("fields.csv", encoding="utf-8")


def answer_fields(folder: Path) -> Any:
    """The fields, in an index that is saved and searched by them."""
    name = "".join(arguments(folder / "path.txt")[:1])
    fields = read_fields(Path(name)) or {}
    index = Flat()
    index.add(world.vectors(len(fields)), [{"path": path, **more} for path, more in fields.items()])
    index.save(folder / "index")
    columns = {name for more in fields.values() for name in more}
    hits = [index.search(world.vectors(1, 1), 9, more)[1] for more in fields.values()]
    return [fields, sorted(columns), torch.cat(hits, 1).tolist()]


TARGETS = [
    Target("manifest", make_manifest, lambda folder: described(open_folder(folder)), {"manifest.csv": "csv"}),
    Target("split_file", make_splits, answer_splits, {"splits.json": "json"}),
    Target("published_lists", make_shoes, lambda folder: described(split(shoe_v2(folder), "published")), {"photo_*.txt": "lines"}),
    Target("fields", make_fields, answer_fields, {"fields.csv": "csv", "path.txt": "lines"}),
]
