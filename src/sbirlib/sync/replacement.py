"""Photos that enter an index, and those that leave it for them, in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbirlib.retrieval.indexes.base import Index
from sbirlib.retrieval.indexes.shards import Record
from sbirlib.sync.changes import Changes
from sbirlib.sync.intake import Intake
from sbirlib.sync.source import Source

SAME = 1e-4  # largest difference of the vectors of one photo that was encoded twice, in other batches


@dataclass(frozen=True)
class Replacement:
    """Paths of the photos that leave an index, and the mask [n] of those photos of a dataset that enter it."""

    leaving: list[str]
    entering: NDArray[np.bool_]


def replacement(index: Index, paths: Sequence[str], vectors: Tensor, intake: Intake, changes: Changes) -> Replacement:
    """The step by which photos with these paths and vectors [n, V] enter an index, in the place of themselves where it has them.

    A photo that cannot be read leaves, and one that was unknown stays where its vector is the same; `changes` are brought up to date.
    """
    bad, entering = intake.bad, intake.good
    new, row = set(changes.added), {path: i for i, path in enumerate(paths)}
    unknown = [path for path in changes.unknown if path in row and path not in bad]
    if unknown:
        former = index.vectors(unknown)
        same = torch.isclose(vectors[[row[path] for path in unknown]], former, atol=SAME, rtol=0).all(1)
        for path, alike in zip(unknown, same.tolist(), strict=True):
            if alike:
                entering[row[path]] = False
                changes.kept += 1
            else:
                changes.changed.append(path)
    leaving = [path for path in paths if path not in new and (path in bad or entering[row[path]])]
    changes.bad += bad.values()
    changes.added, changes.changed = ([path for path in kind if path not in bad] for kind in (changes.added, changes.changed))
    changes.unknown = [path for path in changes.unknown if path not in row]
    return Replacement(leaving, entering)


def renewed(record: Record, former: Record | None, source: Source | None) -> Record:
    """The record of a photo that is encoded anew: its former fields stay, but for a category that the folder now gives another."""
    if former is None:
        return record
    moved = source is not None and record.get("category", source.category) != source.category
    return {**former, **record} if moved else {**record, **former}
