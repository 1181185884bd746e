"""Recalibration of batch norms: true statistics under the same map, once, before the first step."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from sbirlib import Pipeline, build, load
from sbirlib.data.dataset import Dataset
from sbirlib.encoders.backbone import Backbone
from sbirlib.encoders.norms import batch_norms, folded, recalibrate, set_statistics
from sbirlib.interfaces import PHOTO, SKETCH, Batch
from sbirlib.training import norms as module
from sbirlib.training.steps import StepEvent

RESNET = "test_resnet"
PHASE = {"steps": 4, "optimizer": {"name": "sgd", "lr": 1e-3}}
KEEP = {"of": "encoder.backbone", "eval": True}


def pictures(count: int, seed: int = 0, modality: int | None = None) -> Batch:
    images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    labels = torch.tensor([SKETCH, PHOTO] * count)[:count] if modality is None else torch.full((count,), modality)
    return Batch(images if modality != PHOTO else images / 2, labels, labels, torch.arange(count))


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Weights whose batch norms are folded: mean 0, variance 1, and a shift."""
    torch.manual_seed(0)
    state = timm.create_model(RESNET).state_dict()
    for name in [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]:
        state[f"{name}bias"] = 0.3 * torch.randn_like(state[f"{name}bias"])
        state[f"{name}weight"] = torch.ones_like(state[f"{name}weight"])
    save_file(state, tmp_path / "folded.safetensors")
    return str(tmp_path / "folded.safetensors")


def fresh(file: str, phases: list[dict[str, Any]] | None = None, **options: Any) -> Pipeline:
    return build(
        encoder={"name": "backbone", "backbone": RESNET, "weights": file, "dim": 8, **options},
        transform={"size": 64},
        losses=["cross_entropy"],
        sampler={"categories": 4, "per_modality": 4},
        phases=phases or [PHASE],
    )


def encoder_of(pipeline: Pipeline) -> Backbone:
    assert isinstance(pipeline.encoder, Backbone)
    return pipeline.encoder


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_other_statistics_leave_the_map(kind: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]) -> None:
    torch.manual_seed(0)
    norm, maps = kind(5).double().eval(), torch.randn(7, 5, *[3, 3] * (kind is nn.BatchNorm2d), dtype=torch.float64)
    for values, scale in ((norm.weight, 1.0), (norm.bias, 2.0), (norm.running_mean, 3.0)):
        assert values is not None
        values.data.normal_(0, scale)
    mean, variance = torch.randn(5, dtype=torch.float64), torch.tensor([2.0, 0.1, 50.0, 1e-3, 0.0], dtype=torch.float64)
    before = norm(maps)
    set_statistics(norm, mean, variance)
    torch.testing.assert_close(norm(maps), before, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)


def test_the_statistics_are_those_of_all_maps(file: str) -> None:
    """Of each norm's inputs over batches of different sizes, mean and variance in one piece."""
    encoder = Backbone(backbone=RESNET, weights=file, dim=8)
    encoder.load_weights()
    encoder.eval()
    batches = [pictures(5, 1), pictures(2, 2), pictures(9, 3)]
    maps: dict[str, list[Tensor]] = {}
    norms = {name: norm for name, norm in encoder.backbone.named_modules() if norm in batch_norms(encoder.backbone)}
    hooks = [norm.register_forward_pre_hook(lambda _, args, n=name: maps.setdefault(n, []).append(args[0])) for name, norm in norms.items()]
    with torch.no_grad():
        before = torch.cat([encoder(batch).embedding for batch in batches])
    for hook in hooks:
        hook.remove()
    recalibrate(norms.values(), lambda: [encoder(batch) for batch in batches])
    for name, norm in norms.items():
        values = torch.cat(maps[name]).transpose(0, 1).flatten(1).double()
        torch.testing.assert_close(norm.running_mean.double(), values.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), values.var(1, correction=0), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        after = torch.cat([encoder(batch).embedding for batch in batches])
    assert float((after - before).abs().max() / before.abs().max()) < 1e-4
    assert not any(norm._forward_pre_hooks for norm in norms.values())
    with torch.no_grad():
        whole = Batch(*(torch.cat([getattr(b, field) for b in batches]) for field in ("images", "modality", "category", "instance")))
        live = encoder.train()(whole).embedding
    torch.testing.assert_close(
        live, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()), msg="the map of training mode is the same too"
    )


def test_folded_norms_that_train_make_another_network(file: str) -> None:
    """The fault that recalibration mends."""
    encoder, batch = Backbone(backbone=RESNET, weights=file, dim=8), pictures(16)
    encoder.load_weights()
    assert encoder.folded
    with torch.no_grad():
        before, live = encoder.eval()(batch).embedding, encoder.train()(batch).embedding
    assert float(F.cosine_similarity(before, live).mean()) < 0.8


def test_a_norm_without_maps_stays_as_it_was() -> None:
    norm = nn.BatchNorm2d(3)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    recalibrate([norm], lambda: None)
    recalibrate([norm], lambda: norm.eval()(torch.zeros(0, 3, 4, 4)))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_norms_of_each_modality_have_its_own_statistics(file: str) -> None:
    encoder = Backbone(backbone=RESNET, weights=file, dim=8, norms="modality")
    encoder.load_weights()
    encoder.eval()
    assert encoder.folded
    batches = [pictures(6, modality=SKETCH), pictures(6, modality=PHOTO)]
    before = [encoder(batch).embedding for batch in batches]
    recalibrate(batch_norms(encoder.backbone), lambda: [encoder(batch) for batch in batches])
    for batch, expected in zip(batches, before, strict=True):
        torch.testing.assert_close(encoder(batch).embedding, expected, rtol=1e-4, atol=1e-4)
    sketch, photo = (encoder.backbone.get_buffer(f"conv1.1.{side}.running_mean") for side in ("sketch", "photo"))
    assert float((sketch - photo).abs().max()) > 1e-3


def test_training_starts_from_the_pretrained_map(file: str, dataset: Dataset) -> None:
    """The embedding that the first step's loss reads, in training mode, is that of the weights as they were read."""
    similarity = {}
    for option in (False, True):
        pipeline, start = fresh(file, recalibrate=option), fresh(file)
        start.model.load_weights()
        event = next(pipeline.steps(dataset, device="cpu"))
        with torch.no_grad():
            expected = encoder_of(start).eval()(event.step.batch).embedding
        similarity[option] = float(F.cosine_similarity(event.step.features.embedding.detach(), expected).mean())
        assert folded(encoder_of(pipeline).backbone) is False, "the first step itself gives norms statistics"
    assert similarity[True] > 0.98 > 0.9 > similarity[False]


def test_a_run_that_is_resumed_ends_bit_identical(file: str, dataset: Dataset, tmp_path: Path, calls: list[int]) -> None:
    options: dict[str, Any] = {"device": "cpu", "progress": False, "tensorboard": False, "save_every": 1}
    whole = fresh(file, recalibrate=True).fit(dataset, out=tmp_path / "whole", **options)

    def stop(event: StepEvent) -> None:
        if event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh(file, recalibrate=True).fit(dataset, out=tmp_path / "stopped", on_step=stop, **options)
    resumed = fresh(file, recalibrate=True).fit(dataset, out=tmp_path / "stopped", resume=True, **options)
    assert all(torch.equal(value, resumed.model.tensors()[name]) for name, value in whole.model.tensors().items())
    assert len(calls) == 2, "not when it is resumed"


@pytest.mark.parametrize("write", [Pipeline.save, Pipeline.export])
def test_a_model_that_is_loaded_is_not_recalibrated(
    file: str, dataset: Dataset, tmp_path: Path, calls: list[int], write: Callable[[Pipeline, Path], None]
) -> None:
    trained = fresh(file, recalibrate=True).fit(dataset, device="cpu", progress=False, tensorboard=False)
    write(trained, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    vectors = [each.encode_images(dataset.photos, progress=False) for each in (trained, loaded)]
    assert torch.equal(*vectors)
    loaded.fit(dataset, device="cpu", progress=False, tensorboard=False)
    trained.fit(dataset, device="cpu", progress=False, tensorboard=False)
    assert len(calls) == 1


def test_another_start_for_the_backbone_is_recalibrated(file: str, dataset: Dataset, tmp_path: Path, calls: list[int]) -> None:
    fresh(file, phases=[PHASE | {"parameters": [KEEP]}]).fit(dataset, device="cpu", progress=False, tensorboard=False).save(
        tmp_path / "fixed.safetensors"
    )
    own = fresh(file, recalibrate=True)
    own.model.load_weights()
    own.warm_start(tmp_path / "fixed.safetensors", "encoder.backbone").fit(dataset, device="cpu", progress=False, tensorboard=False)
    assert len(calls) == 1


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of norms at each recalibration."""
    noted: list[int] = []

    def note(norms: list[nn.BatchNorm2d], encode: Callable[[], object]) -> None:
        noted.append(len(norms))
        recalibrate(norms, encode)

    monkeypatch.setattr(module, "recalibrate", note)
    return noted


def test_each_encoder_sees_the_images_of_its_phases_once(file: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    sketches = PHASE | {"sampler": {"name": "shuffled", "size": 9, "modality": "sketch"}}
    pipeline = fresh(file, phases=[PHASE, PHASE | {"steps": 0}, PHASE | {"chunk": 8}, sketches], recalibrate=True)
    monkeypatch.setattr(module, "IMAGES", 40)
    batches: list[tuple[int, int]] = []

    def note(own: nn.Module, inputs: tuple[Batch], _: object) -> None:
        if not own.training:
            batches.append((len(inputs[0]), int(inputs[0].modality.sum())))

    pipeline.encoder.register_forward_hook(note)
    next(pipeline.steps(dataset, device="cpu"))
    assert batches[0][0] == 8, "the trial of the encoder"
    assert batches[1:] == [(32, 16)] * 2 + [(9, 0)] * 5


WARNING = "phases.0 trains the batch norms of encoder (test_resnet) with the statistics of batches, and the weights have all"


@pytest.mark.parametrize(
    ("warns", "options", "rules"),
    [
        (True, {}, []),
        (True, {}, [{"of": "encoder.backbone", "frozen": 2}]),
        (True, {"norms": "modality"}, []),
        (True, {}, [KEEP, {"of": "encoder.backbone.layer1", "eval": False}]),
        (False, {"recalibrate": True}, []),
        (False, {}, [KEEP]),
        (False, {}, [{"of": "encoder.backbone", "frozen": True}]),
        (False, {}, [{"of": "encoder.backbone", "frozen": 4}]),
        (False, {"weights": None, "pretrained": False}, []),
    ],
)
def test_folded_norms_that_would_train_are_warned_of(
    file: str, dataset: Dataset, caplog: pytest.LogCaptureFixture, warns: bool, options: dict[str, Any], rules: list[dict[str, Any]]
) -> None:
    caplog.set_level(logging.WARNING, logger="sbirlib")
    pipeline = fresh(file, phases=[PHASE | {"parameters": rules}, PHASE | {"parameters": [KEEP]}], **options)
    next(pipeline.steps(dataset, device="cpu"))
    assert (WARNING in caplog.text) == warns
    if warns:
        assert caplog.text.count("folded into the convolutions") == 1
        assert (
            'recalibrate = true, or the phase a rule that keeps them as they are, parameters = [{ of = "encoder.backbone", eval = true }]'
            in caplog.text
        )


def test_weights_with_statistics_are_not_warned_of(tmp_path: Path, dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    model = timm.create_model(RESNET)
    model.train()(torch.rand(4, 3, 64, 64))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    next(fresh(str(tmp_path / "w.safetensors")).steps(dataset, device="cpu"))
    assert "batch norms" not in caplog.text
