"""The learning rate's factor over a phase."""

import math

from sbirlib.errors import InputError


class Constant:
    """The factor is 1 after a linear `warmup` of so many steps."""

    def __init__(self, *, warmup: int = 0) -> None:
        self.warmup = warmup

    def factor(self, step: int, steps: int) -> float:
        return min(1.0, (step + 1) / (self.warmup + 1))


class Cosine:
    """Half a cosine from 1 to `floor` at the phase's end (Loshchilov and Hutter 2017, eq. 5), after a linear `warmup`.

    >>> [round(Cosine().factor(step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """

    def __init__(self, *, warmup: int = 0, floor: float = 0.0) -> None:
        if warmup < 0 or not 0 <= floor <= 1:
            raise InputError(f"cosine takes warmup >= 0 and a floor in [0, 1], got warmup={warmup}, floor={floor}")
        self.warmup, self.floor = warmup, floor

    def factor(self, step: int, steps: int) -> float:
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        share = (step - self.warmup) / max(1, steps - self.warmup)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2
