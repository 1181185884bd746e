"""Schedules: factors over a phase, against literal transcriptions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbirlib.errors import InputError
from sbirlib.training.schedules import Linear


def transcription(step: int, steps: int, warmup: int, hold: float) -> float:
    """Rise over the warm-up; 1; then the fall over the rest of the phase. The smallest of the three counts."""
    plateau = hold * steps
    rise = (step + 1) / (warmup + 1) if step < warmup else 1.0
    fall = 1.0 if step <= plateau else 1 - (step - plateau) / (steps - plateau)
    return min(rise, fall)


@given(step=st.integers(0, 99), more=st.integers(1, 100), warmup=st.integers(0, 50), hold=st.floats(0, 0.99))
def test_linear_rises_holds_and_falls(step: int, more: int, warmup: int, hold: float) -> None:
    steps = step + more
    assert Linear(warmup=warmup, hold=hold).factor(step, steps) == pytest.approx(transcription(step, steps, warmup, hold), abs=1e-9)


def test_the_rate_of_cyclegan_is_constant_over_the_first_half() -> None:
    """Zhu et al. 2017, section 4: 100 epochs at one rate, then 100 in which it falls linearly to zero."""
    factors = [Linear(hold=0.5).factor(step, 200) for step in range(200)]
    assert factors[:101] == [1.0] * 101
    assert factors[101:] == pytest.approx([1 - epoch / 100 for epoch in range(1, 100)])


@pytest.mark.parametrize("warmup", [0, 3])
def test_linear_ends_just_above_zero_in_a_phase_of_any_length(warmup: int) -> None:
    for steps in (1, 2, 7, 22_000):
        last = Linear(warmup=warmup).factor(steps - 1, steps)
        assert 0 < last <= 1 / steps


def test_a_hold_of_the_whole_phase_is_refused() -> None:
    with pytest.raises(InputError, match="Linear: hold = 1.0"):
        Linear(hold=1.0)
