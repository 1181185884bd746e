"""Paired differences of the rows of an experiment, over seeds or over folds, and the verdicts on its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from benchmarks.experiments import definition, store
from benchmarks.experiments.definition import Claim, Experiment
from benchmarks.experiments.folders import FOLDERS
from sbirlib.retrieval.paired import Difference, paired

VERDICTS = ("holds", "does not hold", "no gain that matters", "not decided", "not run yet")
LEVEL, POWER = 0.975, 0.8  # a two-sided test at 5 %, with a power of 80 %

Run = Mapping[str, Any]
Runs = Mapping[str, Mapping[int, Run]]  # by row and seed


def runs_of(experiment: Experiment) -> Runs:
    """Stored runs of an experiment, by row and seed; rows without a run are empty."""
    runs: dict[str, dict[int, dict[str, Any]]] = {row.name: {} for row in experiment.rows}
    for result in store.read(experiment.name):
        runs.setdefault(result["row"], {})[result["seed"]] = result
    return runs


def shown() -> list[Experiment]:
    """The experiments of the pages: all but those for a GPU that have no run; in a folder of one's own those with runs."""
    experiments = map(definition.read, definition.names())
    return [each for each in experiments if finished(runs_of(each)) or not (each.gpu or FOLDERS.pictures)]


def finished(runs: Runs) -> dict[str, list[Run]]:
    """Runs without an error, by row; rows without such runs are left out."""
    succeeded = {row: [r for r in own.values() if "error" not in r] for row, own in runs.items()}
    return {row: own for row, own in succeeded.items() if own}


def least(experiment: Experiment, runs: Runs, claim: Claim) -> float:
    """Least effect that matters: that of the experiment's data, or in a world a third of the oracle's gain; 0, every effect, without either."""
    return experiment.matters or (oracle_gain(experiment, runs, claim) or 0.0) / 3


def oracle_gain(experiment: Experiment, runs: Runs, claim: Claim) -> float | None:
    """Gain of a claim's oracle over its worse row; None without an oracle, its runs, or a gain."""
    succeeded = finished(runs)
    if not {claim.oracle, claim.worse} <= succeeded.keys():
        return None
    oracle, worse = (float(np.mean([r["metrics"][experiment.metrics[0]] for r in succeeded[row]])) for row in (claim.oracle, claim.worse))
    return oracle - worse if oracle > worse else None


def difference(experiment: Experiment, runs: Runs, row: str, against: str, metric: str) -> Difference | None:
    """Paired difference of two rows; None where they have no seed in common, or, of folds, not every one."""
    ours, theirs = ({s: r["queries"] for s, r in runs[name].items() if "error" not in r} for name in (row, against))
    seeds = sorted(ours.keys() & theirs.keys())
    if experiment.folds:
        if len({s % experiment.folds for s in seeds}) < experiment.folds:
            return None
        return over_folds([(s % experiment.folds, np.mean(np.subtract(ours[s][metric], theirs[s][metric]))) for s in seeds])
    if not seeds:
        return None
    category: Sequence[int] = theirs[seeds[0]]["category"]
    return paired({s: ours[s][metric] for s in seeds}, {s: theirs[s][metric] for s in seeds}, category)


def over_folds(differences: Sequence[tuple[int, float]]) -> Difference | None:
    """Mean over folds of the mean differences of their runs, given as (fold, difference); None of fewer than two folds.

    Folds have other classes and other models, so their spread holds both; the interval is Student's t of their means. Folds share training
    classes, which makes it somewhat too narrow (Nadeau and Bengio 2003).

    >>> over_folds([(0, 0.1), (1, 0.3), (0, 0.3)]).mean
    0.25
    """
    folds = [np.mean([value for own, value in differences if own == fold]) for fold in sorted({fold for fold, _ in differences})]
    if len(folds) < 2:
        return None
    mean, error, freedom = np.mean(folds), np.std(folds, ddof=1) / np.sqrt(len(folds)), len(folds) - 1
    half = t.ppf(LEVEL, freedom) * error
    return Difference(float(mean), float(mean - half), float(mean + half), float(half + t.ppf(POWER, freedom) * error), len(differences))


def verdict(claim_difference: Difference | None, matters: float = 0.0) -> str:
    """One of VERDICTS on a claim, from the difference of its two rows and the least effect that matters; 0: every effect does.

    A claim is of a gain, and there is none that matters where the interval holds zero and ends below `matters`.
    """
    if claim_difference is None:
        return "not run yet"
    if claim_difference.significant:
        return "holds" if claim_difference.mean > 0 else "does not hold"
    return "no gain that matters" if claim_difference.high < matters else "not decided"
