"""Sweep over compositions: every installed encoder with every miner and loss either trains or is refused by an InputError."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from sbirlib import build, list_parts, registry
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.losses import pml
from sbirlib.miners.pml import TRIPLET_MINERS
from sbirlib.options import options_of
from sbirlib.progress import track
from sbirlib.testing.subject import SMALL, Subject
from sbirlib.testing.world import separable
from sbirlib.training.objective import NonFiniteGradient, NonFiniteLoss

STEPS = 2
NARROW: dict[str, Any] = {"channels": 4, "blocks": 1, "latent": 8, "hidden": 32, "clusters": 8, "rows": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "adaptive": {"descriptor": {"name": "descriptor", "dim": 16, "rows": 8, "channels": 4}},
    "landmark": {"landmarks": 4, "filters": 4, "encoder": {**SMALL["encoder"], "output_stride": 8}},
    "pml:RankedListLoss": {"margin": 0.4, "Tn": 1.0},
}
RULES = {"adaptive": [{"of": "encoder.descriptor", "frozen": True}]}  # a descriptor trains in a phase of its own
FLAT = {"pml:HistogramLoss"}  # constant, hence with a gradient of zero, where the histograms of its pairs do not overlap

VERDICTS = ("trains", "flat", "refused")


@dataclass(frozen=True)
class Composition:
    """An encoder, a loss and the miner of its triplets; `miner` is None for a loss that reads none."""

    encoder: str
    loss: str
    miner: str | None = None

    def __str__(self) -> str:
        return " + ".join(filter(None, (self.encoder, self.loss, self.miner)))


FOUND = {  # by an earlier sweep: a gradient that is missing, an index out of range, a gradient that is NaN
    Composition("clustered", "assignment"): "refused",
    Composition("clustered", "pml:HistogramLoss"): "trains",
    Composition("clustered", "pml:TupletMarginLoss"): "trains",
}


def every_composition() -> list[Composition]:
    """Each encoder with each loss: one of triplets with each miner, one of PML without and with each miner."""
    miners = [name for name in list_parts("miner") if name != "pml"] + [f"pml:{name}" for name in TRIPLET_MINERS]
    ours = [name for name in list_parts("loss") if name != "pml"]
    theirs = [f"pml:{name}" for name in pml.adaptable()]
    mined = [name for name in ours if "triplets" in Subject("loss", name).make().needs]
    pairs: list[tuple[str, str | None]] = [(loss, None) for loss in [*ours, *theirs] if loss not in mined]
    pairs += [(loss, miner) for loss in [*mined, *theirs] for miner in miners]
    return [Composition(encoder, loss, miner) for encoder in list_parts("encoder") for loss, miner in pairs]


def recipe(composition: Composition) -> dict[str, Any]:
    """A recipe of few steps of the composition, with small components."""
    options = options_of(registry.load("encoder", composition.encoder))
    small = {name: value for name, value in {**SMALL, **NARROW}.items() if name in options}
    triplets = {"triplets": True} if composition.miner and composition.loss.startswith("pml:") else {}
    return {
        "encoder": {"name": composition.encoder, **small, **OPTIONS.get(composition.encoder, {})},
        "losses": {"loss": {"name": composition.loss, **triplets, **OPTIONS.get(composition.loss, {})}},
        "miner": composition.miner,
        "transform": {"size": 32},
        "sampler": {"categories": 4, "per_modality": 2},
        "phases": [{"steps": STEPS, "parameters": RULES.get(composition.encoder, [])}],
    }


def verdict(composition: Composition, data: Dataset) -> str:
    """One of VERDICTS, or the fault of a composition that does none of these."""
    try:
        pipeline = build(**recipe(composition))
        pipeline.plan(data)
        before = {name: value.detach().clone() for name, value in pipeline.model.named_parameters()}
        losses = [value for event in pipeline.steps(data, device="cpu") for value in event.losses.values()]
    except (NonFiniteLoss, NonFiniteGradient) as error:
        return str(error)
    except InputError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    after = dict(pipeline.model.named_parameters())
    if not all(map(math.isfinite, losses)) or not all(bool(value.isfinite().all()) for value in after.values()):
        return f"trains to values that are not finite (losses: {losses})"
    if any(not before[name].equal(value) for name, value in after.items()):
        return "trains"
    return "flat" if composition.loss in FLAT else "no parameter has changed"


def sweep(compositions: Iterable[Composition], data: Dataset) -> tuple[Counter[str], list[str]]:
    """Number of compositions by verdict, and those at fault, with their faults."""
    counts, faults = Counter[str](), list[str]()
    for composition in compositions:
        result = verdict(composition, data)
        fault = result not in VERDICTS
        counts["other" if fault else result] += 1
        faults += [f"{composition}: {result}"] if fault else []
    return counts, faults


@pytest.fixture(scope="module")
def data() -> Dataset:
    return separable()


@pytest.mark.parametrize("composition", FOUND, ids=str)
def test_what_an_earlier_sweep_found_is_mended(composition: Composition, data: Dataset) -> None:
    assert verdict(composition, data) == FOUND[composition]


def test_a_sample_of_compositions_trains_or_is_refused(data: Dataset) -> None:
    counts, faults = sweep(random.Random(0).sample(every_composition(), 40), data)
    assert not faults, "\n".join(faults)
    assert counts["trains"] >= 25, counts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of losses that others wrote
def test_every_composition_trains_or_is_refused(data: Dataset) -> None:
    """Progress is shown with `pytest -s`."""
    compositions = every_composition()
    counts, faults = sweep(track(compositions, total=len(compositions), label="compositions"), data)
    print(f"\n{len(compositions)} compositions: {dict(counts)}")
    assert not faults, "\n".join(faults)
    assert counts["other"] == 0
    assert counts["trains"] > 0.75 * len(compositions), counts
    assert counts["flat"] < 0.02 * len(compositions), counts
