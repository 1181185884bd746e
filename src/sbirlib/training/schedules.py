"""Schedules of the learning rate over a phase."""

import math
from typing import Annotated

from annotated_types import Ge, Interval

from sbirlib.interfaces import Component


class Constant(Component):
    """A factor of 1, after a linear warm-up.

    Args:
        warmup: steps of the linear warm-up
    """

    def __init__(self, *, warmup: Annotated[int, Ge(0)] = 0) -> None:
        self.warmup = warmup

    def factor(self, step: int, steps: int) -> float:
        """Factor on the learning rate at a step (0-based)."""
        return min(1.0, (step + 1) / (self.warmup + 1))


class Linear(Constant):
    """A factor of 1, after a linear warm-up, that falls linearly to 0 at the phase's end.

    With `hold` 0.5 it is that of CycleGAN, constant over the first half of the steps (Zhu et al. 2017, section 4).

    Args:
        warmup: steps of the linear warm-up
        hold: share of the phase's steps before the fall

    >>> [round(Linear(hold=0.5).factor(step, 8), 3) for step in range(8)]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """

    def __init__(self, *, warmup: Annotated[int, Ge(0)] = 0, hold: Annotated[float, Interval(ge=0, lt=1)] = 0.0) -> None:
        super().__init__(warmup=warmup)
        self.hold = hold

    def factor(self, step: int, steps: int) -> float:
        """Factor on the learning rate at a step (0-based)."""
        return min(super().factor(step, steps), (steps - step) / (steps * (1 - self.hold)))


class Cosine(Component):
    """Half a cosine from 1 to `floor` at the phase's end (Loshchilov and Hutter 2017, eq. 5), after a linear warm-up.

    Args:
        warmup: steps of the linear warm-up
        floor: factor at the phase's end

    >>> [round(Cosine().factor(step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """

    def __init__(self, *, warmup: Annotated[int, Ge(0)] = 0, floor: Annotated[float, Interval(ge=0, le=1)] = 0.0) -> None:
        self.warmup, self.floor = warmup, floor

    def factor(self, step: int, steps: int) -> float:
        """Factor on the learning rate at a step (0-based)."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        share = (step - self.warmup) / max(1, steps - self.warmup)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2
