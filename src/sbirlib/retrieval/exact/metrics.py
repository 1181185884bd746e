"""The table of retrieval metrics: definition and formula of each, over a `Ranking`.

R is the number of relevant photos in the gallery, a hit is a relevant photo in the top k, and the precision at a hit is the share of hits
down to its place. `reference.metric_of_order` defines the same metrics for one order of the gallery.

Ties: `expected` is the exact mean over all orders of equal scores; `ranking.settle` describes the other rules. The interpolated metrics
have no closed form of that mean: under `expected` they take equal scores in gallery order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.retrieval.exact.ranking import TIES, Ranking

Formula = Callable[[Ranking, float], Tensor]


class Entry(NamedTuple):
    """A row of the table: the definition in words, and the formula that maps a ranking of Q queries and k to values [Q, 1]."""

    definition: str
    formula: Formula


class Metric(NamedTuple):
    """A parsed metric name: its definition and formula, its k (infinity for all), and the rule for ties that it uses."""

    definition: str
    formula: Formula
    k: float
    ties: str


def _precision_sum(ranking: Ranking, k: float) -> Tensor:
    return ranking.precisions(k).sum(1, keepdim=True)


def _interpolated(ranking: Ranking, k: float) -> Tensor:
    highest = ranking.precisions(k).flip(1).cummax(1).values
    return (highest * ranking.places(k).flip(1)).sum(1, keepdim=True) / ranking.relevant.clamp(max=k)


def _precision_at_relevant(ranking: Ranking, k: float) -> Tensor:
    cut = ranking.relevant.clamp(max=k)
    return ranking.hits_in(cut) / cut


METRICS: Mapping[str, Entry] = {
    "mAP@all": Entry("sum of the precision at each relevant photo / R", lambda r, k: _precision_sum(r, k) / r.relevant),
    "mAP@all:voc": Entry(
        "as mAP@all, each precision raised to the highest of those at later hits (SAKE, MATHM, ACNet, ZSE-SBIR)", _interpolated
    ),
    "mAP@k": Entry("sum of the precision at each hit / min(k, R)", lambda r, k: _precision_sum(r, k) / r.relevant.clamp(max=k)),
    "mAP@k:hits": Entry("sum of the precision at each hit / hits (sem-pcyc, torchmetrics)", Ranking.mean_precision),
    "mAP@k:total": Entry("sum of the precision at each hit / R (pytorch-metric-learning)", lambda r, k: _precision_sum(r, k) / r.relevant),
    "mAP@k:k": Entry("sum of the precision at each hit / k (Yelamarthi et al.)", lambda r, k: _precision_sum(r, k) / k),
    "mAP@k:voc": Entry("as mAP@k, each precision raised to the highest of those at later hits in the top k", _interpolated),
    "Prec@k": Entry("hits / k, even where the gallery is smaller than k", lambda r, k: r.hits_in(k) / k),
    "Prec@k:min": Entry("hits / min(k, R)", lambda r, k: r.hits_in(k) / r.relevant.clamp(max=k)),
    "Prec@k:zse": Entry("precision at min(k, R) (ZSE-SBIR)", _precision_at_relevant),
    "Acc@k": Entry("1 where a relevant photo is in the top k, a tie counting against us; else 0", lambda r, k: (r.hits_in(k) > 0).double()),
}


def read_metric(name: str, ties: str = "expected") -> Metric:
    """A metric by its name.

    >>> read_metric("Prec@100").k
    100.0
    >>> read_metric("map@10")
    Traceback (most recent call last):
        ...
    sbirlib.errors.InputError: there is no metric 'map@10'; did you mean 'mAP@10'? (known: Acc@10, Prec@10, Prec@10:min, ...
    """
    if ties not in TIES:
        raise InputError(f"there is no rule {ties!r} for ties{nearest(ties, TIES)}")
    digits = re.search(r"@([1-9][0-9]*)", name)
    template = name.replace(digits[0], "@k", 1) if digits else name
    if template not in METRICS or (digits is None and "@k" in template):
        k = digits[1] if digits else "100"
        hint = " k counts from 1." if "@0" in name else ""
        raise InputError(f"there is no metric {name!r}{nearest(name, [t.replace('@k', f'@{k}') for t in METRICS])}{hint}")
    if template.startswith("Acc"):
        ties = "pessimistic"
    if template.endswith("voc") and ties == "expected":
        ties = "stable"
    return Metric(*METRICS[template], k=float(digits[1]) if digits else torch.inf, ties=ties)


def read_metrics(names: Sequence[str], ties: str = "expected") -> dict[str, Metric]:
    """Metrics by their names, at least one."""
    if not names:
        raise InputError("no metric was asked for; ask for some, such as metrics=['mAP@all', 'Prec@100']")
    return {name: read_metric(name, ties) for name in names}
