"""Resumption from checkpoints that anyone may have written, and output folders that vanish."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.training.test_run import small_pipeline

from sbirlib import build, sealed, split
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoder
from sbirlib.pipeline import Pipeline
from sbirlib.training import checkpoint
from sbirlib.training.steps import StepEvent

Fresh = Callable[[], Encoder]
Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], object]


def fit(fresh: Fresh, dataset: Dataset, out: Path, **options: Any) -> Pipeline:
    return small_pipeline(fresh()).fit(dataset, out=out, progress=False, tensorboard=False, save_every=1, **options)


def stopped(fresh: Fresh, dataset: Dataset, out: Path) -> Path:
    """The checkpoint of a run that was stopped after step 4 of 8."""

    def stop(event: StepEvent) -> None:
        if event.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(fresh, dataset, out, on_step=stop)
    return out / "checkpoint.safetensors"


CHANGES: dict[str, tuple[Change, str]] = {
    "no training": (lambda t, a: a.pop("training"), "a model without the state of a training"),
    "a phase too far": (lambda t, a: a["training"]["position"].update(phase=1), "no place in this recipe"),
    "a step too far": (lambda t, a: a["training"]["position"].update(step=9), "no place in this recipe"),
    "an epoch too far": (lambda t, a: a["training"]["position"].update(epoch=2**40), "no place in this recipe"),
    "a batch too far": (lambda t, a: a["training"]["position"].update(batch=100), "batch 100 of epoch"),
    "a step below zero": (lambda t, a: a["training"]["position"].update(step=-1), "training.position.step"),
    "a key too many": (lambda t, a: a["training"]["position"].update(more=1), "training.position.more"),
    "another optimizer": (lambda t, a: a["training"]["optimizers"].update(more={"groups": [], "plain": {}}), "state of the optimizers"),
    "an optimizer's state missing": (lambda t, a: t.pop("optimizer.encoder.0.exp_avg"), "is not whole"),
    "a tensor missing": (lambda t, a: t.pop("encoder.embedding.bias"), "missing or too many"),
    "a tensor too many": (lambda t, a: t.update(more=torch.ones(1)), "missing or too many"),
    "a tensor's shape": (lambda t, a: t.update({"encoder.embedding.bias": torch.ones(9)}), "encoder.embedding.bias is"),
    "a tensor's type": (lambda t, a: t.update({"encoder.embedding.bias": torch.ones(8).half()}), "encoder.embedding.bias is"),
    "no random state": (lambda t, a: t.pop("rng.cpu"), "random stream is missing"),
    "a random state of nothing": (lambda t, a: t.update({"rng.cpu": torch.zeros(5, dtype=torch.uint8)}), "random stream rng.cpu is none"),
    "other categories": (lambda t, a: a.update(categories=["x"]), "was trained on"),
    "other data": (lambda t, a: a["data"].update(digest="0"), "was trained on"),
    "too many instances": (lambda t, a: a.update(instances=2**60), "instances|was trained on"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_forged_checkpoint_is_refused_before_anything_is_loaded(name: str, fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    path = stopped(fresh, dataset, tmp_path)
    tensors, about = checkpoint.read(path)
    CHANGES[name][0](tensors, about)
    checkpoint.write(path, tensors, about)
    with pytest.raises(InputError, match=CHANGES[name][1]):
        fit(fresh, dataset, tmp_path, resume=True)


def test_a_checkpoint_of_another_split_or_dataset_is_refused(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    data = split(dataset, "class4,class5")
    stopped(fresh, data, tmp_path)
    with pytest.raises(
        InputError, match=r"was trained on figures, split unseen=class4,class5 \(\w+\), and this is figures, split unseen=class0"
    ):
        fit(fresh, split(dataset, "class0,class1"), tmp_path, resume=True)
    with pytest.raises(InputError, match="resume it on the same images and split"):
        fit(fresh, split(dataset.subset(slice(1, None)), "class4,class5"), tmp_path, resume=True)
    fit(fresh, data, tmp_path, resume=True)


def test_other_images_without_a_split_are_told_apart(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    stopped(fresh, dataset, tmp_path)
    with pytest.raises(InputError, match="resume it on the same images and split"):
        fit(fresh, dataset.subset(slice(2, None)), tmp_path, resume=True)


def test_a_run_from_pretrained_weights_is_resumed_without_them(dataset: Dataset, tmp_path: Path) -> None:
    backbone = {"name": "backbone", "backbone": "test_resnet", "dim": 8}
    build(encoder={**backbone, "pretrained": False}, losses=["cross_entropy"]).export(tmp_path / "m.safetensors")
    tensors, _ = checkpoint.read(tmp_path / "m.safetensors")
    weights = {name.removeprefix("encoder.backbone."): value for name, value in tensors.items() if "backbone" in name}
    save_file(weights, tmp_path / "w.safetensors")

    def run(out: Path, **options: Any) -> Pipeline:
        pipeline = small_pipeline({**backbone, "weights": str(tmp_path / "w.safetensors")})  # type: ignore[arg-type]
        return pipeline.fit(dataset, out=out, progress=False, tensorboard=False, save_every=1, **options)

    def stop(event: StepEvent) -> None:
        if event.done == 5:
            raise KeyboardInterrupt

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", on_step=stop)
    (tmp_path / "w.safetensors").unlink()
    resumed = run(tmp_path / "run", resume=True)
    assert all(torch.equal(value, whole.model.tensors()[name]) for name, value in resumed.model.tensors().items())


def test_every_flipped_bit_of_a_checkpoint_is_named(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    path = stopped(fresh, dataset, tmp_path)
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 100):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(InputError, match="checkpoint.safetensors"):
            checkpoint.read_model(path)
    path.write_bytes(whole)
    fit(fresh, dataset, tmp_path, resume=True)


def test_a_folder_that_vanishes_during_training_is_made_again(
    fresh: Fresh, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def vanish(event: StepEvent) -> None:
        if event.done == 4:
            shutil.rmtree(tmp_path / "run")

    whole = fit(fresh, dataset, tmp_path / "whole", log_every=1)
    with caplog.at_level(logging.WARNING, logger="sbirlib"):
        run = fit(fresh, dataset, tmp_path / "run", log_every=1, on_step=vanish)
    assert "has vanished, and is made again" in caplog.text
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == [5, 6, 7, 8]
    sealed.verify(tmp_path / "run" / "checkpoint.safetensors")
    assert all(torch.equal(value, whole.model.tensors()[name]) for name, value in run.model.tensors().items())
    fit(fresh, dataset, tmp_path / "run", resume=True)


def test_a_folder_that_cannot_be_made_again_ends_the_run_with_the_reason(fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    def block(event: StepEvent) -> None:
        if event.done == 4:
            shutil.rmtree(tmp_path / "run")
            (tmp_path / "run").write_text("a file")

    with pytest.raises(InputError, match="could not be written|nothing can be written in"):
        fit(fresh, dataset, tmp_path / "run", log_every=1, on_step=block)


@pytest.mark.parametrize("line", ["", "{", "[]", "5", '{"step": "x"}', '{"step": 99}', "\x00", "[" * 100_000])
def test_a_damaged_line_of_a_log_is_dropped_when_the_run_goes_on(line: str, fresh: Fresh, dataset: Dataset, tmp_path: Path) -> None:
    stopped(fresh, dataset, tmp_path)
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n' + line.encode() + b'\n\xff\xfe\n{"step": 2}\n')
    fit(fresh, dataset, tmp_path, resume=True, log_every=1)
    steps = [json.loads(text)["step"] for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 5, 6, 7, 8]
