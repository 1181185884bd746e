"""A step waits for no GPU: the trainer reads nothing between two checks, and a miner only how many triplets there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.training.synchronisations import Synchronisations

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Sampler
from sbirlib.losses.cross_entropy import check_labels
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.testing.world import separable
from sbirlib.training.objective import NonFiniteLoss
from sbirlib.training.run import Run
from sbirlib.training.steps import Position, steps

STEPS = 5


def counted(recipe: str, monkeypatch: pytest.MonkeyPatch, **phase: Any) -> Counter[str]:
    """Synchronisations of five steps between two checks, without those of reading images."""
    monkeypatch.setattr("sbirlib.losses.cross_entropy.check_labels", lambda *_: None)  # on a GPU it reads nothing
    monkeypatch.setattr("sbirlib.miners.hardest.WITH_OFFSET", ())  # as on a GPU
    pipeline = small(Subject("recipe", recipe, {f"phases.0.{key}": value for key, value in phase.items()}), steps=3 * STEPS)
    plan, source, _ = pipeline._start(separable(), Run(workers=0, progress=False))
    mode = Synchronisations()

    def batches(sampler: Sampler, start: Position) -> Iterator[tuple[Position, Batch, bool]]:
        for item in source(sampler, start):
            mode.paused = False
            yield item
            mode.paused = True

    events = steps(plan, batches, Position(), check_every=2 * STEPS)
    next(events)
    with mode.counted() as counts:
        for _ in range(STEPS):
            next(events)
    return counts


@pytest.mark.parametrize("phase", [{}, {"accumulate": 2}, {"clip": 1.0}])
@pytest.mark.parametrize("recipe", ["mathm-ce", "normsoftmax"])
def test_the_trainer_reads_nothing(recipe: str, phase: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(recipe, monkeypatch, **phase) == {}


def test_mining_reads_the_number_of_triplets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counted("mathm", monkeypatch)
    assert counts.keys() == {"nonzero"}
    assert counts["nonzero"] <= STEPS * 4, "one for each kind of triplets, and one for the gradient of distances"


def test_the_counter_counts() -> None:
    values, mode = torch.tensor([1.0, 2.0]), Synchronisations()
    with mode.counted() as counts:
        for read in (
            values.sum().item,
            values.tolist,
            values.numpy,
            values.nonzero,
            lambda: bool(values[0] > 0),
            lambda: values[values > 1],
        ):
            read()
    assert sum(counts.values()) >= 6


def test_labels_on_another_device_are_not_read() -> None:
    check_labels(torch.empty(3, dtype=torch.int64, device="meta"), 2)
    with pytest.raises(InputError, match="categories 0 to 2 were given to a classifier of 2"):
        check_labels(torch.tensor([0, 2]), 2)


def test_an_image_without_a_category_is_named_before_the_first_step() -> None:
    data = separable()
    data.category[3] = -1
    pipeline = small(Subject("recipe", "mathm-ce", {"sampler": {"name": "shuffled", "size": 8}}), steps=2)
    with pytest.raises(InputError, match="1 images of an epoch have no category, which the loss 'cross_entropy' needs"):
        pipeline.plan(data)


@pytest.mark.parametrize("at", [3, 5, 6])
def test_a_term_that_is_not_finite_is_named_with_its_own_step(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked every four steps, as between two records of a log on a GPU."""
    pipeline = small(Subject("recipe", "mathm-ce"), steps=8)
    plan, source, _ = pipeline._start(separable(), Run(workers=0, progress=False))
    loss, calls = plan.model.loss("cross_entropy"), [0]
    forward = type(loss).forward

    def spoilt(self: Any, step: Any) -> Any:
        calls[0] += 1
        value: Any = forward(self, step)
        return value + (float("nan") if calls[0] == at else 0.0) * value.detach()

    monkeypatch.setattr(type(loss), "forward", spoilt)
    done: list[int] = []
    with pytest.raises(NonFiniteLoss, match=rf"the loss term 'cross_entropy' is nan at step {at} \(phase 0, step {at}\)"):
        done.extend(event.done for event in steps(plan, source, Position(), check_every=4))
    assert len(done) < at + 4
