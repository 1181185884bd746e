"""Datasets by name, folder or packed file, as the command line takes them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from sbirlib import registry
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import folder
from sbirlib.data.packed import is_packed, packed
from sbirlib.data.split import split as split_dataset
from sbirlib.errors import InputError
from sbirlib.options import read_options, refuse


def dataset(source: str, split: str | None = None, **options: Any) -> Dataset:
    """The dataset `source`, a name such as "synthetic", a folder or a packed file, split by `split`; the default for a folder is "seed:0".

    A published dataset is named with its folder, `sketchy:FOLDER`, and needs a `split`. `options` are those of the dataset, such as
    `skip_bad=True` for a folder.

    >>> dataset("synthetic", categories=20, unseen=5).describe()
    'synthetic: 20 categories, 1600 sketches, 800 photos; split synthetic-category-5 (...)'
    """
    data = opened(source, **options)
    if split is None and data.split is None:
        if data.splits:
            raise InputError(f"say which split of {data.name} is meant: {', '.join(data.splits)}, or another")
        split = None if _named(source) else "seed:0"
    return data if split is None else split_dataset(data, split)


def opened(source: str, **options: Any) -> Dataset:
    """The dataset `source` as it lies, without the default split of a folder."""
    if not _named(source):
        return packed(source, **options) if is_packed(source) and not Path(source).is_dir() else folder(source, **options)
    name, _, root = source.partition(":")
    make = registry.load("dataset", name)
    faults: list[str] = []
    read_options(make, options, name, faults, owner=f"dataset {name!r}")
    refuse(faults)
    of_files = any(p.kind is not p.KEYWORD_ONLY for p in inspect.signature(make).parameters.values())
    if of_files != bool(root):
        raise InputError(f"{name} is read from a folder: say {name}:FOLDER" if of_files else f"{name} takes no folder, got {root!r}")
    data: Dataset = make(*([root] if root else []), **options)
    return data


def _named(source: str) -> bool:
    """Whether a dataset is found by its name; all else is a path."""
    name, colon, _ = source.partition(":")
    return name in registry.list_parts("dataset") and (bool(colon) or name != "folder")
