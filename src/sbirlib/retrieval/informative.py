"""Check of labels before an evaluation: evaluations whose metrics are the same for every model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbirlib.interfaces import Evaluator, Labels
from sbirlib.retrieval.evaluators import Category, Instance

LabelArray = NDArray[np.int64]
CLASSES = (
    "choose a split with two such classes or more, as a split file names them ('seed:N' takes a tenth of the seen classes for validation, "
    "two of them only from 19 classes on)"
)
INSTANCES = "evaluate with 'category', or give each sketch the file name of its photo"


def uninformative(queries: Labels, gallery: Labels, evaluators: Iterable[Evaluator] | None = None) -> str | None:
    """A sentence for each evaluator (default: category-level retrieval) whose metrics no model can change; None where all say something.

    Labels alone are read, [Q] and [G] of arrays or tensors, so nothing needs to be encoded before. Evaluators of other kinds are passed over.

    >>> uninformative(sketches, photos) is None
    True
    >>> uninformative(sketches, photos[photos.category == 0])
    "category-level evaluation says nothing here: all 6 photos are of one category, so any order of them has mAP 1.000; choose ...
    """
    sentences = [_fault(evaluator, queries, gallery) for evaluator in (evaluators if evaluators is not None else (Category(),))]
    return " ".join(filter(None, sentences)) or None


def _fault(evaluator: Evaluator, queries: Labels, gallery: Labels) -> str | None:
    if not isinstance(evaluator, Category | Instance):
        return None
    by, way = ("category", CLASSES) if isinstance(evaluator, Category) else ("instance", INSTANCES)
    reason = _reason(by, queries, gallery) or _same_for_all(evaluator, by, queries, gallery)
    return reason and f"{by}-level evaluation says nothing here: {reason}; {way}."


def _reason(by: str, queries: Labels, gallery: Labels) -> str | None:
    """The reason that no query has a relevant photo; None where one has."""
    for side, name in ((queries, "sketches"), (gallery, "photos")):
        if len(side) == 0:
            return f"there are no {name}"
        if bool((_label(side, by) < 0).all()):
            return f"none of the {len(side)} {name} has {'an' if by == 'instance' else 'a'} {by}"
    if not _answered(by, queries, gallery).any():
        return f"no sketch shares its {by} with a photo"
    return None


def _same_for_all(evaluator: Category | Instance, by: str, queries: Labels, gallery: Labels) -> str | None:
    """The reason that every photo which is ranked for a query is relevant; None where one is not."""
    label = _label(gallery, by)
    if isinstance(evaluator, Instance) and evaluator.gallery == "category":
        category = _label(gallery, "category")
        categories = np.unique(_label(queries, "category")[_answered(by, queries, gallery)])
        if all(len(np.unique(label[category == c])) == 1 for c in categories):
            return "each category has photos of one instance alone, and ranks no others, so every Acc@k is 1.000"
        return None
    if len(np.unique(label)) == 1:
        metrics = "any order of them has mAP 1.000" if by == "category" else "every Acc@k is 1.000"
        return f"all {len(gallery)} photos are of one {by}, so {metrics}"
    return None


def _answered(by: str, queries: Labels, gallery: Labels) -> NDArray[np.bool_]:
    """Whether each query [Q] has a relevant photo."""
    label, photos = _label(queries, by), _label(gallery, by)
    return (label >= 0) & np.isin(label, photos)


def _label(side: Labels, name: str) -> LabelArray:
    values: Any = getattr(side, name)
    return np.asarray(values)
