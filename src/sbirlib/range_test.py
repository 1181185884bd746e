"""Learning-rate range test (Smith 2017): the loss over rates that grow from step to step, and a rate read from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Component
from sbirlib.options import hold
from sbirlib.phase import Phase
from sbirlib.phase_alone import PhaseAlone, phase_alone
from sbirlib.progress import track
from sbirlib.training.objective import NonFiniteGradient, NonFiniteLoss
from sbirlib.training.plan import learning_rates

Array = NDArray[np.float64]
MEMORY = 0.9  # of the running mean by which a divergence is noticed
DIVERGED = 3.0  # times the lowest running mean, above it
CERTAIN = 3.0  # standard errors of the first losses that a fall must exceed
OPPONENT = "discriminator"


class RangeTest(Component):
    """A factor that grows exponentially from `low` to `high` over the phase.

    Args:
        low: factor at the first step
        high: factor at the last step

    >>> [round(RangeTest(low=0.01, high=100.0).factor(step, 5), 3) for step in range(5)]
    [0.01, 0.1, 1.0, 10.0, 100.0]
    """

    def __init__(self, *, low: Annotated[float, Gt(0)], high: Annotated[float, Gt(0)]) -> None:
        self.low, self.high = low, high

    def factor(self, step: int, steps: int) -> float:
        """Factor on the learning rate at a step (0-based)."""
        return float(self.low * (self.high / self.low) ** (step / max(1, steps - 1)))


@dataclass(frozen=True)
class RangeCurve:
    """Result of a range test: the weighted loss at each rate, `rates` [n] and `losses` [n].

    The rate is that of the parameter group with the largest one, `rate` in the recipe; all groups move together. `settings` holds every rate
    of the recipe by its path, and `thawed` the rules that freeze parameters for some steps of a training, and froze none in the test.
    """

    rates: Array
    losses: Array
    rate: float
    settings: Mapping[str, float]
    thawed: tuple[str, ...] = ()
    diverged: bool = False

    @property
    def smoothed(self) -> Array:
        """The losses [n] as means over a tenth of the steps around each, so that no rate is shifted."""
        window = np.ones(2 * max(1, len(self.losses) // 20) + 1)
        return np.convolve(self.losses, window, "same") / np.convolve(np.ones(len(self.losses)), window, "same")

    @property
    def fell(self) -> bool:
        """Whether the loss fell by more than its noise, that of its first quarter."""
        first = self.losses[: max(3, len(self.losses) // 4)]
        window = 2 * max(1, len(self.losses) // 20) + 1
        return bool(first.mean() - self.smoothed.min() > CERTAIN * first.std() / math.sqrt(min(window, len(first))))

    @property
    def lowest(self) -> float:
        """The rate at the minimum of the smoothed loss."""
        return float(self.rates[int(self.smoothed.argmin())])

    @property
    def steepest(self) -> float:
        """The rate below the minimum at which the smoothed loss falls fastest, by the logarithm of the rate."""
        end = max(2, int(self.smoothed.argmin()) + 1)
        slope = np.gradient(self.smoothed[:end], np.log10(self.rates[:end]))
        return float(self.rates[int(slope.argmin())])

    @property
    def suggestion(self) -> tuple[float, str] | None:
        """A rate with the reason for it: the lower of the steepest descent and a tenth of the minimum; None where the loss did not fall."""
        if not self.fell:
            return None
        tenth = self.lowest / 10
        if self.steepest <= tenth:
            return self.steepest, "the loss falls fastest there, an order of magnitude or more below its minimum"
        return (
            tenth,
            f"an order of magnitude below the minimum of the loss; it falls fastest at {self.steepest:.2g}, too near to where it rises",
        )

    def scaled(self, rate: float) -> dict[str, float]:
        """Every rate of the recipe, by its path, where the largest is `rate`."""
        return {path: value * rate / self.rate for path, value in self.settings.items()}


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """Steps, and the rates of the first and the last."""

    steps: Annotated[int, Ge(10)]
    low: Annotated[float, Gt(0)]
    high: Annotated[float, Gt(0)]

    def __post_init__(self) -> None:
        hold(_Settings, vars(self))
        if self.low >= self.high:
            raise InputError(f"rates from {self.low:g} to {self.high:g}: expected the first below the second")


def range_test(
    recipe: str | Mapping[str, Any],
    dataset: Dataset,
    *,
    steps: int = 100,
    low: float = 1e-7,
    high: float = 1.0,
    device: str | None = None,
    workers: int = 0,
    progress: bool = True,
    **changes: Any,
) -> RangeCurve:
    """Train a fresh pipeline of the recipe for some steps while the rate grows exponentially from `low` to `high`.

    The rate is that of the parameter group with the largest; the others keep their ratio to it. The test is of the first phase that has steps,
    without its schedule and without parameters that are frozen for some steps, on the training split alone; it ends before `steps` where the
    loss diverges. Weights that move over a phase are taken as they are at its end.

    >>> len(range_test(pipeline.recipe.tables(), dataset, steps=10, progress=False).rates)
    10
    """
    _Settings(steps=steps, low=low, high=high)
    alone = phase_alone(recipe, changes, steps=steps)
    number = alone.number
    rate = max(learning_rates(alone.pipeline.plan(dataset).phases[number]).values())
    if rate <= 0:
        raise InputError(f"all rates of phases.{number} are 0: a range test moves them in proportion, so give one")
    alone = phase_alone(recipe, changes, steps=steps, phase=number, schedule=RangeTest(low=low / rate, high=high / rate))
    events = alone.pipeline.steps(dataset, device=device, workers=workers)
    rates, losses, diverged = _losses(track(events, total=steps, label="range test") if progress else events, alone.phase, steps, low, high)
    return RangeCurve(np.array(rates), np.array(losses), rate, _rates(alone), alone.thawed, diverged)


def _losses(events: Any, phase: Phase, steps: int, low: float, high: float) -> tuple[list[float], list[float], bool]:
    """The rates and losses of the steps, and whether the loss diverged at the last."""
    schedule = RangeTest(low=low, high=high)
    rates: list[float] = []
    losses: list[float] = []
    running, weight, lowest = 0.0, 0.0, math.inf
    try:
        for event in events:
            loss = weighted(event.losses, phase)
            rates.append(schedule.factor(len(rates), steps))
            losses.append(loss)
            running, weight = MEMORY * running + (1 - MEMORY) * loss, MEMORY * weight + 1 - MEMORY
            mean = running / weight
            lowest = min(lowest, mean)
            if mean - lowest > DIVERGED * max(abs(lowest), 0.1 * abs(losses[0])):
                return rates, losses, True
            if len(losses) == steps:
                break
    except (NonFiniteLoss, NonFiniteGradient):
        if len(losses) < 2:
            raise
        return rates, losses, True
    return rates, losses, False


def weighted(losses: Mapping[str, float], phase: Phase) -> float:
    """The encoder's loss: its terms, by name, times their weights at the end of the phase."""
    total = 0.0
    for name in phase.weights:
        for label, value in losses.items():
            term = None if label == name else label.removeprefix(f"{name}.")
            if term != label and (term is None or term.split(".")[0] != OPPONENT):
                total += value * phase.weight(name, term, 1.0)
    return total


def _rates(alone: PhaseAlone) -> dict[str, float]:
    """The learning rates of the phase by their paths in the recipe."""
    phase, path = alone.phase, f"phases.{alone.number}"
    optimizers = {"optimizer": phase.optimizer, "discriminator": phase.discriminator}
    own = {f"{path}.{name}.lr": spec.options["lr"] for name, spec in optimizers.items() if spec is not None and "lr" in spec.options}
    return own | {f"{path}.parameters.{i}.lr": rule.lr for i, rule in enumerate(phase.parameters) if rule.lr is not None}


def save_curve(curve: RangeCurve, path: str | Path) -> None:
    """Draw the losses over the rates, with the suggestion and the recipe's own rate, as a PNG."""
    from sbirlib.visual.curves import rate_curve
    from sbirlib.visual.figures import save_figure

    suggestion = curve.suggestion
    marks = {"recipe": curve.rate} | ({} if suggestion is None else {"suggested": suggestion[0]})
    save_figure(rate_curve(curve.rates, curve.losses, curve.smoothed, marks), path)
