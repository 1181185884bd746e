"""A dataset by what a user types: a name that is installed, or a folder."""

from __future__ import annotations

from typing import Any

from sbirlib import registry
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import folder
from sbirlib.data.split import split as divide


def dataset(source: str, split: str | None = None, **options: Any) -> Dataset:
    """The dataset `source`, a name such as "synthetic" or a folder, divided by `split`; a folder without one by "seed:0".

    `options` are the dataset's own, such as `skip_bad=True` of a folder.

    >>> dataset("synthetic", categories=20, unseen=5).describe()  # doctest: +SKIP
    'synthetic: 20 categories, 1600 sketches, 800 photos; split synthetic-category-5 (...)'
    """
    if source != "folder" and source in registry.list_datasets():
        registry.check("dataset", {"name": source, **options})
        found: Dataset = registry.load("dataset", source)(**options)
    else:
        found = folder(source, **options)
        split = split or "seed:0"
    return found if split is None else divide(found, split)
