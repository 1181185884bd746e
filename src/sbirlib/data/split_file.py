"""Split files: named splits as entries of a JSON file, such as `splits.json:qdphoto/zero_shot_15`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sbirlib.data.dataset import Dataset, IntArray
from sbirlib.data.split_rules import TEST, by_class, by_file_name, by_photo
from sbirlib.documents import read_json, read_text
from sbirlib.errors import InputError, nearest

RULE = "per class, file names sorted: the first floor(0.7 n) train, the rest test"
VALIDATION_RULE = "the last 20 % of each class's training files"
LISTS = ("unseen", "seen", "validation", "test_photos", "train_photos", "validation_photos", "left_out_photos", "left_out_sketches")
TREE: TypeAdapter[Any] = TypeAdapter(Any)
KINDS = {
    "unseen": "class names; also seen, validation",
    "test_photos": "photo names; also train_photos, validation_photos, left_out_photos, left_out_sketches",
    "rule": f"{RULE!r}; also validation_rule, and counts train, test to check",
}


def from_file(dataset: Dataset, file: Path, name: str, *, seed: int) -> IntArray:
    """The split [N] of `dataset` by the entry `name` of `file`."""
    table = read_splits(file)
    if name not in table:
        raise InputError(f"{file} has no split {name!r}{nearest(name, table)}")
    return from_entry(dataset, table[name], f"{file}:{name}", seed=seed)


def from_entry(dataset: Dataset, entry: Mapping[str, Any], where: str, *, seed: int) -> IntArray:
    """The split [N] of `dataset` by an entry; `where` names the entry in errors."""
    for key, value in entry.items():
        if key in LISTS and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            raise InputError(f"{where}: {key!r} must be a list of names, got {value!r}")
    try:
        if "unseen" in entry:
            return _classes(dataset, entry, seed)
        if "test_photos" in entry:
            return _photos(dataset, entry, seed)
        return _rule(dataset, entry)
    except InputError as error:
        raise InputError(f"{where} does not fit the data: {error}") from error


def read_splits(file: Path) -> dict[str, Mapping[str, Any]]:
    """All splits of a file, by their path of keys."""
    text = read_text(file, expected="a split file; a split in it is written FILE.json:ENTRY, such as splits.json:qdphoto/zero_shot_15")
    content = read_json(text, TREE, str(file))

    def walk(node: Any, path: str) -> dict[str, Mapping[str, Any]]:
        if not isinstance(node, dict):
            return {}
        if path and any(kind in node for kind in KINDS):
            return {path: node}
        return {k: v for name, child in node.items() for k, v in walk(child, f"{path}/{name}".lstrip("/")).items()}

    table = walk(content, "")
    if not table:
        raise InputError(f"{file} holds no split; an entry has one of " + "; ".join(f"{k!r} ({v})" for k, v in KINDS.items()))
    return table


def _classes(dataset: Dataset, entry: Mapping[str, Any], seed: int) -> IntArray:
    unseen, validation = entry["unseen"], entry.get("validation", [])
    if "seen" in entry:
        seen_classes = set(entry["seen"])
        if both := sorted(seen_classes & set(unseen)):
            raise InputError(f"classes both seen and unseen: {', '.join(both)}")
        if missing := sorted(seen_classes - set(dataset.categories)):
            raise InputError(f"{dataset.name} lacks the classes {', '.join(missing)}{nearest(missing[0], dataset.categories)}")
        if extra := sorted(set(dataset.categories) - seen_classes - set(unseen)):
            raise InputError(f"the split does not mention {', '.join(extra)}: list them as seen, or leave 'seen' out")
    return by_class(dataset, unseen, validation, seed=seed)


def _photos(dataset: Dataset, entry: Mapping[str, Any], seed: int) -> IntArray:
    return by_photo(
        dataset,
        train=entry.get("train_photos", []),
        test=entry["test_photos"],
        validation=entry.get("validation_photos", []),
        left_out_photos=entry.get("left_out_photos", []),
        left_out_sketches=entry.get("left_out_sketches", []),
        seed=seed,
    )


def _rule(dataset: Dataset, entry: Mapping[str, Any]) -> IntArray:
    if entry["rule"] != RULE or entry.get("validation_rule", VALIDATION_RULE) != VALIDATION_RULE:
        raise InputError(f"unknown rule {entry['rule']!r}; expected {RULE!r} and, for validation, {VALIDATION_RULE!r}")
    assignment = by_file_name(dataset)
    test = int((assignment == TEST).sum())
    for split, actual in {"train": len(assignment) - test, "test": test}.items():
        if entry.get(split, actual) != actual:
            raise InputError(f"the rule gives {actual} images to {split}, the file says {entry[split]}: is this the whole dataset?")
    return assignment
