"""Datasets by name or folder, as the command line takes them."""

from __future__ import annotations

import inspect
from typing import Any

from sbirlib import registry
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import folder
from sbirlib.data.split import split as split_dataset
from sbirlib.errors import InputError
from sbirlib.options import read_options, refuse


def dataset(source: str, split: str | None = None, **options: Any) -> Dataset:
    """The dataset `source`, a name such as "synthetic" or a folder, split by `split`; the default for a folder is "seed:0".

    A published dataset is named with its folder, `sketchy:FOLDER`, and needs a `split`. `options` are those of the dataset, such as
    `skip_bad=True` for a folder.

    >>> dataset("synthetic", categories=20, unseen=5).describe()
    'synthetic: 20 categories, 1600 sketches, 800 photos; split synthetic-category-5 (...)'
    """
    name, colon, root = source.partition(":")
    if name in registry.list_parts("dataset") and (colon or name != "folder"):
        make = registry.load("dataset", name)
        faults: list[str] = []
        read_options(make, options, name, faults, owner=f"dataset {name!r}")
        refuse(faults)
        of_files = any(p.kind is not p.KEYWORD_ONLY for p in inspect.signature(make).parameters.values())
        if of_files != bool(root):
            raise InputError(f"{name} is read from a folder: say {name}:FOLDER" if of_files else f"{name} takes no folder, got {root!r}")
        data: Dataset = make(*([root] if root else []), **options)
        if data.splits and split is None:
            raise InputError(f"say which split of {name} is meant: {', '.join(data.splits)}, or another")
    else:
        data = folder(source, **options)
        split = split or "seed:0"
    return data if split is None else split_dataset(data, split)
