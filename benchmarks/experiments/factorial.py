"""The composition study: a fractional factorial over parts of a composition, and the effect of each part and each pair with its interval.

64 runs of the 2^7 combinations: the last factor's sign is that of minus the product of the other six (resolution VII), so that no part at all is
a run, and no main effect and no interaction of two is mixed with another of them (Box, Hunter and Hunter 2005, chapter 6). The runs stand in four
blocks of 16, one a fold of the classes; blocks are mixed with interactions of three factors and more alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.experiments.definition import Experiment, Row
from benchmarks.experiments.verdicts import Run
from sbirlib.retrieval.paired import LEVEL, POWER, Difference

FACTORS = {
    "cse": "channel gates by modality after the last stage (CSE), in place of the plain backbone",
    "triplets": "hardest triplets of each kind (MATHM), beside the other losses",
    "normsoftmax": "NormSoftmax over proxies, in place of a linear classifier",
    "contrast": "supervised contrast across modalities, beside the other losses",
    "distillation": "relations among photos kept as in the pretrained network",
    "ema": "moving average of the weights, decay 0.9",
    "interpolation": "two tenths of the pretrained weights after training",
}
DRAWS = 2000
WEIGHTS = "$SBIRLIB_DATA/weights/tf_efficientnet_lite0_fp16.safetensors"
NETWORK = {"backbone": "tf_efficientnet_lite0", "weights": WEIGHTS}


def signs() -> NDArray[np.int64]:
    """Design [64, 7]: -1 without a factor, 1 with it."""
    first = np.array(list(product((-1, 1), repeat=6)))
    return np.column_stack([first, -first.prod(1)])


def blocks(design: NDArray[np.int64]) -> NDArray[np.int64]:
    """Block of each run [64], by two products of three factors.

    >>> np.bincount(blocks(signs())).tolist()
    [16, 16, 16, 16]
    """
    first, second = ((design[:, factors].prod(1) > 0).astype(np.int64) for factors in ([0, 1, 2], [2, 3, 4]))
    number: NDArray[np.int64] = 2 * first + second
    return number


def rows() -> tuple[Row, ...]:
    """The 64 runs as rows of an experiment, each of one fold."""
    design = signs()
    return tuple(row(signs_of, int(block)) for signs_of, block in zip(design, blocks(design), strict=True))


def row(signs_of: NDArray[np.int64], fold: int) -> Row:
    """One run: the parts that are there name it."""
    parts = [name for name, sign in zip(FACTORS, signs_of, strict=True) if sign > 0]
    encoder: dict[str, Any] = {"name": "cse" if "cse" in parts else "backbone", **NETWORK, "dim": 512}
    path = "encoder"
    classifier = {"name": "norm_softmax", "temperature": 0.05} if "normsoftmax" in parts else {"name": "cross_entropy", "bias": False}
    losses: list[dict[str, Any]] = [classifier]  # a list replaces those of the recipe, and all weigh 1
    settings: dict[str, Any] = {}
    if "triplets" in parts:
        losses.append({"name": "balanced_triplet", "margin": 0.2, "floor": 0.1})
        settings["miner"] = {"name": "modality_hard", "kinds": ["cross", "within", "hybrid"]}
    if "contrast" in parts:
        losses.append({"name": "supcon", "temperature": 0.1})
    if "distillation" in parts:
        losses.append({"name": "distillation", "temperature": 0.1})
        encoder, path = {"name": "taught", "encoder": encoder, "teacher": {"name": "backbone", **NETWORK, "dim": 0}}, "encoder.encoder"
    if "ema" in parts:
        settings["ema"] = 0.9
    settings |= {"encoder": encoder, "losses": losses, "phases": [phase(parts, path)]}
    mixed = {f"{path}.backbone": 0.2} if "interpolation" in parts else {}
    return Row(name=" + ".join(parts) or "none", recipe="mathm-ce", settings=settings, pretrained=mixed, folds=(fold,))


def phase(parts: Sequence[str], path: str) -> dict[str, Any]:
    """The one phase of a run: the last two stages and what is new train."""
    backbone = f"{path}.backbone"
    frozen = [f"{backbone}.conv_stem", f"{backbone}.bn1", f"{backbone}.blocks.[0-4]*"] + [f"{path}.conditions.[0-3]"] * ("cse" in parts)
    value: dict[str, Any] = {
        "steps": 100,
        "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 1e-4},
        "schedule": {"name": "cosine", "warmup": 10},
        "parameters": [{"of": backbone, "lr": 3e-4, "eval": True}, *({"of": name, "frozen": True} for name in frozen)],
    }
    if not {"distillation", "cse"} & set(parts):  # a teacher reads images, and gates hang on the stages before
        value["cache"] = {"module": f"{backbone}.blocks.4", "draws": 4}
    return value


def effects(experiment: Experiment, runs: Mapping[str, Mapping[int, Run]]) -> dict[str, Difference]:
    """Effects of all factors, then of pairs, the largest first: the mean change of the metric with a part, or half the change of one part's effect
    with the other part. Empty before every run is there.

    The interval holds other classes, by a bootstrap within folds, and the chance in each run, by what main effects and pairs leave over.
    """
    metric = experiment.metrics[0]
    own = [runs.get(each.name, {}).get(each.folds[0], {"error": ""}) for each in experiment.rows]
    if any("error" in run for run in own):
        return {}
    design = signs()
    names, columns = contrasts(design)
    folds, values = blocks(design), [by_class(run, metric) for run in own]
    means = np.array([each.mean() for each in values])
    noise = 4 * residual_variance(means, columns, folds) / len(means)
    generator, draws = np.random.default_rng(0), np.empty((DRAWS, len(names)))
    for draw in range(DRAWS):
        resample = {fold: generator.integers(0, n, n) for fold in range(4) for n in [len(values[int(np.argmax(folds == fold))])]}
        draws[draw] = (
            2 * columns.T @ np.array([each[resample[int(fold)]].mean() for each, fold in zip(values, folds, strict=True)]) / len(means)
        )
    spread = np.sqrt(draws.var(0) + noise)
    estimates = 2 * columns.T @ means / len(means)
    result = {
        name: Difference(float(mean), float(mean - LEVEL * error), float(mean + LEVEL * error), float((LEVEL + POWER) * error), 1)
        for name, mean, error in zip(names, estimates, spread, strict=True)
    }
    return dict(sorted(result.items(), key=lambda item: (" x " in item[0], -abs(item[1].mean))))


def contrasts(design: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the 7 factors and 21 pairs, and their columns [64, 28]."""
    pairs = list(combinations(range(design.shape[1]), 2))
    factors = list(FACTORS)
    names = factors + [f"{factors[i]} x {factors[j]}" for i, j in pairs]
    return names, np.column_stack([design, *(design[:, i] * design[:, j] for i, j in pairs)])


def by_class(run: Run, metric: str) -> NDArray[np.float64]:
    """Mean of the metric over the queries of each class [C]."""
    values, category = np.array(run["queries"][metric]), np.array(run["queries"]["category"])
    return np.array([values[category == c].mean() for c in np.unique(category)])


def residual_variance(means: NDArray[np.float64], columns: NDArray[np.int64], folds: NDArray[np.int64]) -> float:
    """Variance of runs [64] about the sum of their fold's mean, main effects and pairs."""
    terms = np.column_stack([np.eye(4)[folds], columns])
    fit, *_ = np.linalg.lstsq(terms, means, rcond=None)
    return float(((means - terms @ fit) ** 2).sum() / (len(means) - terms.shape[1]))


def section(experiment: Experiment, runs: Mapping[str, Mapping[int, Run]]) -> list[str]:
    """Lines of the table of effects."""
    table = effects(experiment, runs)
    if not table:
        there = sum(bool(own) for own in runs.values())
        return [f"{there} of {len(experiment.rows)} runs are there; effects are shown when all are."]
    lines = [
        f"| part, or pair | effect on {experiment.metrics[0]} over classes | interval of 95 % | could be seen | |",
        "| --- | ---: | --- | ---: | --- |",
    ]
    for name, each in table.items():
        mean, interval = f"{each.mean:+.3f}", f"{each.low:+.3f} to {each.high:+.3f}"
        cells = [name, f"**{mean}**" if each.significant else mean, interval, f"{each.detectable:.3f}", FACTORS.get(name, "")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
