"""Training as a stream of steps: the same as `fit`, whatever its consumer does in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sbirlib import build
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import AdversarialLoss, Encoder, Loss, Step
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
    with pytest.raises(InputError, match=r"save_every \(--save-every\) = 0: expected a whole number of at least 1"):
        pipeline(encoder).fit(dataset, out=tmp_path / "run", save_every=0, progress=False)
    assert not (tmp_path / "run").exists()


class Constant(Loss):
    """A number that depends on no parameter."""

    def forward(self, step: Step) -> dict[str, Tensor]:
        return {"one": step.features.embedding.detach().sum(), "two": torch.ones(())}


class Root(Loss):
    """A finite term whose gradient is infinite, for it takes a root of zero, beside a sound one; sound altogether until half of the phase."""

    def forward(self, step: Step) -> dict[str, Tensor]:
        rows = step.features.embedding
        return {"sound": rows.square().mean(), "root": (rows.square().sum() * (step.progress < 0.5)).sqrt()}


class Rival(AdversarialLoss):
    """A discriminator whose own loss is as told, and a sound loss that opposes it."""

    def __init__(self, own: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.own = own
        self.discriminator: nn.Linear = nn.Linear(8, 1)

    def forward(self, step: Step) -> Tensor:
        score: Tensor = self.discriminator(step.features.embedding).mean()
        return score

    def discriminator_loss(self, step: Step) -> Tensor:
        return self.own(self.discriminator(step.features.embedding).mean())


def alone(encoder: Encoder, loss: Loss, **phase: Any) -> Pipeline:
    """A pipeline with one phase of four steps and one loss."""
    return pipeline(encoder, losses={"mine": loss}, miner=None, phases=[{"steps": 4, **phase}])


def test_a_phase_without_a_gradient_is_refused(encoder: Encoder, dataset: Dataset) -> None:
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    with pytest.raises(InputError, match=r"no loss has a gradient at step 1 \(phase 0, step 1\): none of 'mine.one', 'mine.two' depends"):
        alone(encoder, Constant()).fit(dataset, progress=False)
    assert all(before[name].equal(value) for name, value in encoder.named_parameters())


def test_a_loss_without_a_gradient_beside_another_is_let_be(encoder: Encoder, dataset: Dataset) -> None:
    losses = {"mine": Constant(), "cross_entropy": {"name": "cross_entropy"}}
    events = list(pipeline(encoder, losses=losses, miner=None, phases=[{"steps": 2}]).steps(dataset))
    assert events[-1].losses.keys() == {"mine.one", "mine.two", "cross_entropy"}


def test_a_phase_that_is_frozen_at_first_is_refused_by_the_plan(encoder: Encoder, dataset: Dataset) -> None:
    phases = [{"steps": 4, "parameters": [{"of": "*", "frozen": 2}]}]
    with pytest.raises(InputError, match="nothing trains in this phase at first"):
        pipeline(encoder, phases=phases).plan(dataset)


def test_discriminators_without_a_gradient_are_refused(encoder: Encoder, dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"no loss has a gradient at step 1 .*: none of 'mine.discriminator' depends"):
        alone(encoder, Rival(Tensor.detach)).fit(dataset, progress=False)


def test_a_discriminator_may_be_frozen_at_first(encoder: Encoder, dataset: Dataset) -> None:
    rival = Rival(lambda score: -score)
    weights = [rival.discriminator.weight.detach().clone()]
    for event in alone(encoder, rival, parameters=[{"of": "losses.mine.discriminator", "frozen": 2}]).steps(dataset):
        assert "mine.discriminator" in event.losses
        weights.append(rival.discriminator.weight.detach().clone())
    assert [not torch.equal(a, b) for a, b in itertools.pairwise(weights)] == [False, False, True, True]


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_is_named_in_its_step(encoder: Encoder, dataset: Dataset, clip: float | None) -> None:
    with pytest.raises(InputError, match=r"not finite at step 3 \(phase 0, step 3\), for encoder.*") as raised:
        alone(encoder, Root(), clip=clip).fit(dataset, progress=False)
    assert "it is that of the loss term 'mine.root'." in str(raised.value)
    assert "It read: embedding -" in str(raised.value)
    assert all(bool(value.isfinite().all()) for value in encoder.parameters())


def test_a_gradient_that_is_not_finite_within_the_encoder_is_said_to_be(fresh: Callable[[], Encoder], dataset: Dataset) -> None:
    encoder = fresh()
    encoder.get_submodule("embedding").register_full_backward_hook(lambda *_: (torch.full((12, 256), torch.nan),))
    with pytest.raises(InputError, match=r"and \d more parameters: it arises in the encoder"):
        pipeline(encoder, phases=[{"steps": 2}]).fit(dataset, progress=False)


def test_a_discriminators_gradient_that_is_not_finite_is_named(encoder: Encoder, dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"for losses.mine.discriminator.weight and 1 more .* loss term 'mine.discriminator'"):
        alone(encoder, Rival(lambda score: (score * 0).sqrt())).fit(dataset, progress=False)


class Large(Loss):
    """A finite gradient whose squares have no finite sum."""

    def forward(self, step: Step) -> Tensor:
        return step.features.embedding.sum() * 1e25


def test_gradients_that_are_large_and_finite_are_let_be(encoder: Encoder, dataset: Dataset) -> None:
    alone(encoder, Large()).fit(dataset, progress=False)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (1, r"after step 1 \(phase 0, step 1\) there are values that are not finite in encoder"),
        (2, "at step 2 .* an earlier step was not finite"),
    ],
)
def test_an_update_that_is_not_finite_is_named(encoder: Encoder, dataset: Dataset, steps: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        alone(encoder, Large(), steps=steps, optimizer={"name": "sgd", "lr": 1e30}).fit(dataset, progress=False)
