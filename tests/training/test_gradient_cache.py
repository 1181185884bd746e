"""Gradient caching and accumulation: the large batch's gradient from small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_run import small_pipeline
from torch import Tensor

from sbirlib import build
from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Encoder, Features, Loss, Step
from sbirlib.pipeline import Pipeline
from sbirlib.testing.world import batch
from sbirlib.training import gradient_cache
from sbirlib.training.gradient_cache import GradientCache, chunks_of, join
from sbirlib.training.steps import StepEvent

Fresh = Callable[[], Encoder]
FROZEN_NORMS = [{"of": "encoder.backbone", "eval": True}]


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything in float64, so that rounding hides nothing."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(torch.float32)


def gradients_of(pipeline: Pipeline, dataset: Dataset) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Losses of every step, and the gradients of the first, of any shape by name."""
    gradients: dict[str, Tensor] = {}
    losses = []

    def note(event: StepEvent) -> None:
        losses.append(dict(event.losses))
        if event.done == 1:
            gradients.update({n: p.grad.clone() for n, p in pipeline.model.named_parameters() if p.grad is not None})

    pipeline.fit(dataset, progress=False, on_step=note)
    return losses, gradients


def quiet(encoder: Encoder) -> Encoder:
    """The encoder without dropout, whose draws depend on the size of a chunk."""
    encoder.dropout.p = 0.0  # type: ignore[union-attr]
    return encoder


@pytest.mark.parametrize("chunk", [2, 5, 8])
def test_chunks_have_the_gradient_of_the_whole_batch(fresh: Fresh, dataset: Dataset, chunk: int) -> None:
    def run(**more: Any) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
        phases = [{"steps": 4, "parameters": FROZEN_NORMS, "optimizer": {"lr": 1e-3}, **more}]
        return gradients_of(small_pipeline(quiet(fresh()), phases=phases), dataset)

    (whole, expected), (chunked, gradients) = run(), run(chunk=chunk)
    for one, other in zip(whole, chunked, strict=True):
        assert other == pytest.approx(one, rel=1e-7)  # the length of a difference that is rounding alone is its square root
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-12)
    assert max(float(value.abs().max()) for value in expected.values()) > 1e-2


def test_norms_that_train_count_each_chunk_once(fresh: Fresh, dataset: Dataset) -> None:
    pipeline = small_pipeline(fresh(), phases=[{"steps": 3, "chunk": 4}]).fit(dataset, progress=False)
    assert int(pipeline.model.tensors()["encoder.backbone.1.num_batches_tracked"]) == 9


def test_random_draws_are_the_same_in_both_passes() -> None:
    class Noisy(Encoder):
        dim = vector_dim = 4
        draws: list[Tensor]

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(12, 4)
            self.draws = []

        def forward(self, batch: Any) -> Features:
            self.draws.append(torch.rand(3))
            return Features.of(batch, self.layer(torch.nn.functional.adaptive_avg_pool2d(batch.images, 2).flatten(1)))

    encoder, images = Noisy(), batch()
    cache = GradientCache(encoder, encoder, images, 6)
    after = torch.get_rng_state()
    cache.features.embedding.square().sum().backward()
    cache.backward()
    first, second = encoder.draws[:3], encoder.draws[3:]
    assert [x.tolist() for x in first] == [x.tolist() for x in second]
    assert torch.equal(torch.get_rng_state(), after)


class OfImages(Loss):
    """A loss of the named tensors of images, beside that of rows."""

    needs = frozenset({"reconstruction", "drawn"})

    def forward(self, step: Step) -> Tensor:
        return step.mean((step.local.images["reconstruction"] - step.local.images["drawn"]).square().flatten(1).mean(1))


def test_images_of_an_encoder_get_their_gradient(dataset: Dataset) -> None:
    def run(**more: Any) -> dict[str, Tensor]:
        settings = {"transform": {"size": 32}, "sampler": {"categories": 3, "per_modality": 2}}
        phase = {"steps": 1, "parameters": [{"of": "encoder", "eval": True}], **more}
        encoder = {"name": "descriptor", "rows": 8, "dim": 8, "channels": 2}
        return gradients_of(build(encoder=encoder, losses={"of": OfImages()}, phases=[phase], **settings), dataset)[1]

    expected, gradients = run(), run(chunk=5)
    assert any("sketch_decoder" in name for name in gradients)
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-12)


def test_all_processes_have_as_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms exchange statistics for each chunk: of two processes with 3 and 2 images, in chunks of 2, the second has two as well."""
    for images in range(1, 40):
        for size in range(2, 9):
            count = -(-images // size)
            own = chunks_of(images, size)
            assert [row for rows in own for row in range(images)[rows]] == list(range(images))
            assert len(own) == count
            sizes = [rows.stop - rows.start for rows in own]
            assert max(sizes) - min(sizes) <= 1, "no small last chunk, of which batch norms would see little"
            monkeypatch.setattr(gradient_cache, "lengths", lambda number: [number, -(-(images + 1) // size)])  # noqa: B023
            shared = chunks_of(images, size)
            monkeypatch.undo()
            assert len(shared) == -(-(images + 1) // size)
            assert [row for rows in shared for row in range(images)[rows]] == list(range(images))
            assert all(0 < rows.stop - rows.start <= size for rows in shared)


def test_views_come_after_the_images_as_in_one_batch() -> None:
    def views(images: int) -> Features:
        rows = torch.arange(2 * images)
        source, view = rows % images, rows // images
        return Features(torch.rand(2 * images, 2), torch.rand(2 * images, 2), rows, rows, rows, source, view)

    whole, _ = join([views(3), views(2)], [3, 2])
    assert whole.source.tolist() == [0, 1, 2, 3, 4] * 2
    assert whole.view.tolist() == [0] * 5 + [1] * 5


def test_accumulated_batches_have_their_mean_gradient(fresh: Fresh, dataset: Dataset) -> None:
    """Two batches a step, by the literal mean of the gradients of each alone."""
    settings: dict[str, Any] = {"miner": None, "losses": ["cross_entropy"]}
    phase = {"steps": 1, "parameters": FROZEN_NORMS}
    _, gradients = gradients_of(small_pipeline(quiet(fresh()), phases=[{**phase, "accumulate": 2}], **settings), dataset)
    alone = [
        gradients_of(small_pipeline(quiet(fresh()), phases=[phase], sampler=Nth(number), **settings), dataset)[1] for number in range(2)
    ]
    mean = {name: (alone[0][name] + alone[1][name]) / 2 for name in gradients}
    torch.testing.assert_close(gradients, mean, rtol=1e-9, atol=1e-12)


def test_accumulated_steps_resume_and_go_through_the_epoch(fresh: Fresh, dataset: Dataset) -> None:
    events = list(small_pipeline(fresh(), phases=[{"steps": 4, "accumulate": 2}]).steps(dataset))
    assert [(event.position.epoch, event.position.batch) for event in events] == [(0, 2), (0, 4), (1, 0), (1, 2)]  # of 6 batches an epoch


class Epochs(Loss):
    """Notes its hooks, in a buffer that a checkpoint holds."""

    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(2))

    def forward(self, step: Step) -> Tensor:
        return step.features.embedding.square().mean()

    def after_step(self, step: Step) -> None:
        self.counts[0] += 1

    def end_epoch(self) -> None:
        self.counts[1] += 1


def test_a_step_of_several_epochs_ends_each_of_them_and_resumes(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    def fit(steps: int, **options: Any) -> Pipeline:
        phases = [{"steps": steps, "accumulate": 20}]  # of 6 batches an epoch
        return small_pipeline(fresh(), phases=phases, losses={"epochs": Epochs()}, miner=None).fit(dataset, progress=False, **options)

    fit(2, out=tmp_path)
    resumed, whole = fit(3, out=tmp_path, resume=True), fit(3)
    assert whole.model.tensors()["losses.epochs.counts"].tolist() == [60, 10]
    assert all(torch.equal(value, whole.model.tensors()[name]) for name, value in resumed.model.tensors().items())


class Nth:
    """The sampler of the runs above, whose epochs begin with another batch."""

    def __init__(self, number: int) -> None:
        self.number = number

    def batches(self, labels: Any, *, seed: int, epoch: int) -> list[list[int]]:
        from sbirlib.data.samplers import Balanced

        return Balanced(categories=3, per_modality=2).batches(labels, seed=seed, epoch=epoch)[self.number :]
