"""Learning-rate range test (Smith 2017): the loss over rates that grow from step to step, and a rate read from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import Tensor

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Component
from sbirlib.options import hold
from sbirlib.phase import Phase
from sbirlib.phase_alone import PhaseAlone, phase_alone
from sbirlib.progress import track
from sbirlib.training.objective import NonFiniteGradient, NonFiniteLoss
from sbirlib.training.plan import learning_rates
from sbirlib.training.steps import StepEvent

Array = NDArray[np.float64]
Point = tuple[float, float, float]  # rate, loss, spread
MEMORY = 0.9  # of the running mean by which a divergence is noticed
DIVERGED = 3.0  # times the lowest running mean, above it
CERTAIN = 3.0  # standard errors of the first losses that a fall must exceed
APART, HALF, TOGETHER = 0.9, 0.5, 0.05  # of the first spread of the vectors: whole; on the way to one vector; one vector for all images
OPPONENT = "discriminator"
End = Literal["last step", "diverged", "collapsed"]


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
    """Result of a range test: the weighted loss at each rate, `rates` [n] and `losses` [n], and the spread of the vectors there, `spreads` [n].

    `end`: the loss diverged, or all images had one vector, as under a triplet loss that then stays at its margin; such a fall of the loss is no
    learning, so a rate is read from the steps before the vectors came together.
    The rate is that of the parameter group with the largest one, `rate` in the recipe; all groups move together. `settings` holds every rate
    of the recipe by its path, and `thawed` the rules that freeze parameters for some steps of a training, and froze none in the test.
    """

    rates: Array
    losses: Array
    spreads: Array
    rate: float
    settings: Mapping[str, float]
    thawed: tuple[str, ...] = ()
    end: End = "last step"

    @property
    def smoothed(self) -> Array:
        """The losses [n] as means over a tenth of the steps around each, so that no rate is shifted."""
        return self._smooth(self.losses)

    def _smooth(self, losses: Array) -> Array:
        window = np.ones(self._window)
        return np.convolve(losses, window, "same") / np.convolve(np.ones(len(losses)), window, "same")

    @property
    def _window(self) -> int:
        return 2 * max(1, len(self.losses) // 20) + 1

    @property
    def _readable(self) -> Array:
        """The smoothed losses of the steps from which a rate is read."""
        return self._smooth(self.losses[: self.sound])

    @property
    def sound(self) -> int:
        """The number of steps before the vectors of images came together: the last with nearly all of the first spread before it is halved."""
        shares = self.spreads / np.median(self.spreads[: max(3, len(self.spreads) // 4)])
        halved = np.flatnonzero(shares < HALF)
        if not len(halved):
            return len(shares)
        whole = np.flatnonzero(shares[: halved[0]] >= APART)
        return max(self._window, int(whole[-1]) + 1 if len(whole) else 0)

    @property
    def fell(self) -> bool:
        """Whether the loss fell by more than its noise, that of its first quarter."""
        first = self.losses[: max(3, len(self.losses) // 4)]
        return bool(first.mean() - self._readable.min() > CERTAIN * first.std() / math.sqrt(min(self._window, len(first))))

    @property
    def lowest(self) -> float:
        """The rate at the minimum of the smoothed loss."""
        return float(self.rates[int(self._readable.argmin())])

    @property
    def steepest(self) -> float:
        """The rate below the minimum at which the smoothed loss falls fastest, by the logarithm of the rate."""
        smoothed = self._readable
        end = max(2, int(smoothed.argmin()) + 1)
        slope = np.gradient(smoothed[:end], np.log10(self.rates[:end]))
        return float(self.rates[int(slope.argmin())])

    @property
    def suggestion(self) -> tuple[float, str] | None:
        """A rate with the reason for it, None where the loss did not fall: the higher of the steepest descent and a tenth of the minimum.

        It is at most half of the minimum, where a loss is about to rise.
        """
        if not self.fell:
            return None
        steepest, tenth, half = self.steepest, self.lowest / 10, self.lowest / 2
        if steepest > half:
            return half, f"half the rate at the minimum of the loss; it falls fastest at {steepest:.2g}, next to where it rises"
        if steepest < tenth:
            return (
                tenth,
                f"a tenth of the rate at the minimum of the loss, which falls slowly from {steepest:.2g} on, where it falls fastest",
            )
        return steepest, f"the loss falls fastest there; its minimum is at {self.lowest:.2g}"

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
    curve, end = _follow(track(events, total=steps, label="range test") if progress else events, alone.phase, steps, low, high)
    rates, losses, spreads = np.array(curve).T
    return RangeCurve(rates, losses, spreads, rate, _rates(alone, rate), alone.thawed, end)


def _follow(events: Iterable[StepEvent], phase: Phase, steps: int, low: float, high: float) -> tuple[list[Point], End]:
    """The rate, the loss and the spread of each step, and the reason for which the last was the last."""
    schedule = RangeTest(low=low, high=high)
    points: list[Point] = []
    running, weight, lowest = 0.0, 0.0, math.inf
    try:
        for event in events:
            loss, spread = weighted(event.losses, phase), _spread(event.step.features.vector)
            points.append((schedule.factor(len(points), steps), loss, spread))
            running, weight = MEMORY * running + (1 - MEMORY) * loss, MEMORY * weight + 1 - MEMORY
            mean = running / weight
            lowest = min(lowest, mean)
            if mean - lowest > DIVERGED * max(abs(lowest), 0.1 * abs(points[0][1])):
                return points, "diverged"
            if spread < TOGETHER * points[0][2]:
                return points, "collapsed"
            if len(points) == steps:
                break
    except (NonFiniteLoss, NonFiniteGradient):
        if len(points) < 3:
            raise
        return points, "diverged"
    return points, "last step"


def _spread(vectors: Tensor) -> float:
    """The mean distance of vectors [N, V] from their mean, in their mean length; 1 for an encoder without vectors."""
    rows = vectors.detach().float()
    length = rows.norm(dim=1).mean() if rows.numel() else torch.zeros(())
    return float((rows - rows.mean(0)).norm(dim=1).mean() / length) if length > 0 else 1.0


def weighted(losses: Mapping[str, float], phase: Phase) -> float:
    """The encoder's loss: its terms, by name, times their weights at the end of the phase."""
    total = 0.0
    for name in phase.weights:
        for label, value in losses.items():
            term = None if label == name else label.removeprefix(f"{name}.")
            if term != label and (term is None or term.split(".")[0] != OPPONENT):
                total += value * phase.weight(name, term, 1.0)
    return total


def _rates(alone: PhaseAlone, largest: float) -> dict[str, float]:
    """The learning rates of the phase by their paths in the recipe, without one that no parameter has: it would be larger than the largest."""
    phase, path = alone.phase, f"phases.{alone.number}"
    optimizers = {"optimizer": phase.optimizer, "discriminator": phase.discriminator}
    own = {f"{path}.{name}.lr": spec.options["lr"] for name, spec in optimizers.items() if spec is not None and "lr" in spec.options}
    own |= {f"{path}.parameters.{i}.lr": rule.lr for i, rule in enumerate(phase.parameters) if rule.lr is not None}
    return {name: value for name, value in own.items() if value <= largest}


def save_curve(curve: RangeCurve, path: str | Path) -> None:
    """Draw the losses over the rates, with the suggestion and the recipe's own rate, as a PNG."""
    from sbirlib.visual.curves import rate_curve
    from sbirlib.visual.figures import save_figure

    suggestion = curve.suggestion
    marks = {"recipe": curve.rate} | ({} if suggestion is None else {"suggested": suggestion[0]})
    save_figure(rate_curve(curve.rates, curve.losses, curve.smoothed, marks), path)
