"""Training as a stream of steps: the same as `fit`, whatever its consumer does in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sbirlib import build
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder
from sbirlib.pipeline import Pipeline
from sbirlib.training.steps import StepEvent

PHASES: list[dict[str, Any]] = [
    {"steps": 3, "optimizer": {"lr": 3e-3}, "parameters": [{"of": "encoder.backbone", "lr": 1e-3}]},
    {"steps": 2, "optimizer": {"lr": 1e-3}, "schedule": {"warmup": 1}, "weights": {"cross_entropy": 0.5}},
]


def pipeline(encoder: Encoder, **changes: Any) -> Pipeline:
    settings: dict[str, Any] = {
        "miner": "modality_hard",
        "losses": ["cross_entropy", "balanced_triplet"],
        "transform": {"size": 32},
        "sampler": {"categories": 3, "per_modality": 2},
        "phases": PHASES,
    }
    return build(encoder=encoder, **{**settings, **changes})


def test_steps_train_as_fit_does_whatever_is_drawn_in_between(fresh: Callable[[], Encoder], dataset: Dataset) -> None:
    whole = pipeline(fresh()).fit(dataset, progress=False)
    stepwise, events = pipeline(fresh()), list[StepEvent]()
    torch.manual_seed(5)
    expected = torch.rand(5)
    torch.manual_seed(5)
    draws = []
    for event in stepwise.steps(dataset):
        draws.append(torch.rand(()))
        events.append(event)
    assert torch.equal(torch.stack(draws), expected), "the caller's random stream is the caller's"
    for name, value in whole.model.tensors().items():
        assert torch.equal(value, stepwise.model.tensors()[name]), name
    assert [(e.done, e.total, e.phase, e.position.step) for e in events] == [
        (1, 5, 0, 1),
        (2, 5, 0, 2),
        (3, 5, 0, 3),
        (4, 5, 1, 1),
        (5, 5, 1, 2),
    ]
    assert set(events[0].losses) == {"cross_entropy", "balanced_triplet.cross", "balanced_triplet.within", "balanced_triplet.hybrid"}
    assert events[0].lr == {"encoder.backbone": 1e-3, "rest": 3e-3}
    assert [e.lr["rest"] for e in events[3:]] == [5e-4, 1e-3]
    assert events[0].step.distances.shape == (len(events[0].step.features),) * 2
    assert not stepwise.encoder.training


def test_an_observer_sees_every_step_and_may_stop(fresh: Callable[[], Encoder], dataset: Dataset, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    numbers: list[int] = []

    def observe(event: StepEvent) -> None:
        numbers.append(event.done)
        if event.done == 4:
            raise Enough

    with pytest.raises(Enough):
        pipeline(fresh()).fit(dataset, out=tmp_path, save_every=1, on_step=observe, progress=False)
    resumed = pipeline(fresh()).fit(dataset, out=tmp_path, resume=True, on_step=lambda event: numbers.append(event.done), progress=False)
    whole = pipeline(fresh()).fit(dataset, progress=False)
    assert numbers == [1, 2, 3, 4, 4, 5]
    assert all(torch.equal(value, whole.model.tensors()[name]) for name, value in resumed.model.tensors().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": {"categories": 50}}, "balanced batches take categories=50 classes"),
        ({"phases.1.sampler": {"name": "pairs", "pairs": 500}}, "pairs=500 sketches"),
        ({"phases.1.parameters": [{"of": "encoder.backbon"}]}, "no parameter is named 'encoder.backbon'"),
        ({"phases.1.encoder": "backbon"}, "the encoder has no module 'backbon'"),
        ({"phases.1.parameters": [{"of": "*", "frozen": True}]}, "nothing trains in this phase"),
        ({"miner": None}, "needs 'triplets'"),
    ],
)
def test_mistakes_of_any_phase_come_out_before_an_image_is_read(
    encoder: Encoder, dataset: Dataset, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "read", lambda *_: pytest.fail("an image was read"))
    phases = [dict(phase, parameters=[]) for phase in PHASES]
    with pytest.raises(InputError, match=message):
        pipeline(encoder, **{"phases": phases, **changes}).plan(dataset)


def test_a_failed_start_leaves_no_file(encoder: Encoder, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="categories=50"):
        pipeline(encoder, sampler={"categories": 50}).fit(dataset, out=tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="save_every = 0: expected a whole number of at least 1"):
        pipeline(encoder).fit(dataset, out=tmp_path / "run", save_every=0, progress=False)
    assert not (tmp_path / "run").exists()
