"""Reference implementation of the retrieval metrics: one query, one order of the gallery at a time. Slow; the oracle of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, combinations, product


def metric_of_order(flags: Sequence[bool], name: str) -> float:
    """A metric of one order of the gallery: `flags` [G], best first, are true where a photo is relevant; at least one is.

    >>> metric_of_order([False, True, True, False, False, True], "mAP@2")
    0.25
    """
    family, _, rest = name.partition("@")
    cut, _, variant = rest.partition(":")
    k, relevant = len(flags) if cut == "all" else int(cut), sum(flags)
    top = flags[:k]
    precisions = [sum(top[: i + 1]) / (i + 1) for i in range(len(top))]
    if variant == "voc":  # interpolated: the highest precision from here on
        precisions = [max(precisions[i:]) for i in range(len(top))]
    hits, total = sum(top), sum(precision for precision, hit in zip(precisions, top, strict=True) if hit)
    least = min(k, relevant)
    match family, variant:
        case "mAP", "" | "voc":
            return total / least
        case "mAP", _:
            return total / {"hits": max(hits, 1), "total": relevant, "k": k}[variant]
        case "Prec", _:
            return {"": hits / k, "min": hits / least, "zse": precisions[least - 1]}[variant]
        case _:
            return float(hits > 0)


def orders(scores: Sequence[float], relevant: Sequence[bool], ties: str) -> Iterable[list[bool]]:
    """The orders of the gallery that a rule for ties allows, each as likely as another, as the `flags` of `metric_of_order`."""
    if ties == "expected":
        groups = [[r for s, r in zip(scores, relevant, strict=True) if s == score] for score in sorted(set(scores), reverse=True)]
        places = [combinations(range(len(group)), sum(group)) for group in groups]
        return (
            list(chain.from_iterable([i in hits for i in range(len(group))] for group, hits in zip(groups, choice, strict=True)))
            for choice in product(*places)
        )
    second: dict[str, Callable[[int], int]] = {
        "stable": lambda i: i,
        "optimistic": lambda i: not relevant[i],
        "pessimistic": lambda i: relevant[i],
    }
    return [[relevant[i] for i in sorted(range(len(scores)), key=lambda i: (-scores[i], second[ties](i)))]]


def reference(scores: Sequence[float], relevant: Sequence[bool], name: str, ties: str = "expected") -> float:
    """A metric of one query from its `scores` [G] and whether each photo is `relevant` [G]: the mean over the orders that ties allow."""
    if not any(relevant):
        return float("nan")
    if name.startswith("Acc"):
        ties = "pessimistic"
    elif name.endswith("voc") and ties == "expected":
        ties = "stable"
    values = [metric_of_order(flags, name) for flags in orders(scores, relevant, ties)]
    return sum(values) / len(values)
