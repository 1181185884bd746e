"""ONNX files of every recipe, against torch."""

from __future__ import annotations

import builtins
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.exchange.recipes import NAMES, TwoLayers, tiny
from torch import Tensor

from sbirlib import build, cli
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.exchange import onnx
from sbirlib.exchange.onnx import export_onnx
from sbirlib.exchange.tracing import plain_len
from sbirlib.interfaces import Batch, Encoder, Features
from sbirlib.pipeline import Pipeline

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
QUICK = ("acnet", "generative", "landmarks", "mathm", "vtd")  # one of each method
SIDES: tuple[Literal["query", "gallery"], ...] = ("query", "gallery")


def vectors(folder: Path, side: str, images: Tensor) -> Any:
    """Vectors by onnxruntime of images [N, 3, S, S], as `preparation.json` says."""
    about = json.loads((folder / "preparation.json").read_text())
    session = onnxruntime.InferenceSession(folder / about[side]["file"], providers=["CPUExecutionProvider"])
    return session.run([about[side]["output"]], {about["input"]["name"]: images.numpy()})[0]


@pytest.mark.parametrize("name", QUICK)
def test_the_files_of_each_method_give_the_vectors_of_its_encoder(name: str, tmp_path: Path, dataset: Dataset) -> None:
    check(tiny(name, TwoLayers), tmp_path, dataset)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_files_of_every_recipe_give_the_vectors_of_its_encoder(name: str, tmp_path: Path, dataset: Dataset) -> None:
    check(tiny(name), tmp_path, dataset)


def check(pipeline: Pipeline, tmp_path: Path, dataset: Dataset) -> None:
    """Export, and hold the files, for real images in batches of several sizes, against torch."""
    exported = export_onnx(pipeline, tmp_path)
    assert exported.difference <= 1e-4
    about = json.loads((tmp_path / "preparation.json").read_text())
    assert about["files"] == {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for file in exported.files[:-1]
    }
    for side, images in zip(SIDES, (dataset.sketches, dataset.photos), strict=True):
        modality = int(images.modality[0])
        inputs = torch.stack([pipeline.transform.prepare(images.read(i), modality) for i in range(len(images))]).float() / 255
        expected = pipeline.encode_images(images, side=side, device="cpu", progress=False).numpy()
        for rows in (slice(0, 1), slice(0, 2), slice(2, 7), slice(None)):
            np.testing.assert_allclose(vectors(tmp_path, side, inputs[rows]), expected[rows], rtol=0, atol=1e-4)
        assert about[side]["shape"] == ["N", *expected.shape[1:]]


def test_sides_that_are_the_same_share_a_file_and_others_do_not(tmp_path: Path) -> None:
    def names() -> set[str]:
        return {file.name for file in tmp_path.iterdir()}

    export_onnx(of(Own("one")), tmp_path)
    assert names() == {"encoder.onnx", "preparation.json"}
    export_onnx(of(Own("layers")), tmp_path)
    assert names() == {"query.onnx", "gallery.onnx", "preparation.json"}  # those of the export before are gone


class Own(Encoder):
    """An encoder whose course depends on the values of images, on their number, on the modality (by pixels, or by layers), or is one."""

    def __init__(self, course: str) -> None:
        super().__init__()
        self.course = course
        self.dim = self.vector_dim = 4
        self.layer, self.other = torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)

    def forward(self, batch: Batch) -> Features:
        pixels = batch.images.mean((2, 3))
        if self.course == "values" and float(pixels.mean()) > 0.5:
            pixels = -pixels
        if self.course == "number":
            pixels = torch.cat([pixels[i : i + 1] for i in range(len(batch))])
        if self.course == "modality":
            photo = ~(batch.modality == 0) & batch.modality.bool()
            pixels = pixels.clone()
            pixels[photo] = pixels[photo] * torch.tensor([1.0, -2.0, 3.0])
            pixels = pixels if bool(photo.any()) else pixels.square()
        layer = self.other if self.course == "layers" and bool((batch.modality == 1).all()) else self.layer
        return Features.of(batch, layer(pixels))


def of(encoder: Any) -> Pipeline:
    return build(encoder=encoder, losses=["cross_entropy"], phases=[{"steps": 1}], transform={"size": 16})


def test_an_encoder_may_branch_on_the_modality(tmp_path: Path) -> None:
    pipeline = of(Own("modality"))
    export_onnx(pipeline, tmp_path)
    images = torch.rand(4, 3, 16, 16)
    query, gallery = (vectors(tmp_path, side, images) for side in SIDES)
    assert np.abs(query[:, 0] - gallery).max() > 0.01
    for modality, result in ((0, query[:, 0]), (1, gallery)):
        labels = torch.full((4,), modality)
        with torch.no_grad():
            expected = pipeline.encoder(Batch(images, labels, labels, labels)).vector.numpy()
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("course", ["values", "number"])
def test_an_encoder_without_a_graph_is_refused_in_a_few_words(course: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"Own has no ONNX graph .*torch\.compiler\.is_exporting"):
        export_onnx(of(Own(course)), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    assert "".join(capfd.readouterr()) == ""
    assert builtins.len is plain_len


def test_a_difference_from_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"differ from torch's by .*nothing was written"):
        export_onnx(of(Own("one")), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_names_the_extra(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=r"needs the extra `onnx`.*sbirlib\[onnx\]"):
        export_onnx(of(Own("one")), tmp_path)


def test_the_command_prints_files_and_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of({"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 16}).export(tmp_path / "model.safetensors")
    monkeypatch.setattr("sys.argv", ["sbirlib", "export", str(tmp_path / "model.safetensors"), "--onnx", str(tmp_path / "exported")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'exported' / 'encoder.onnx'}: ")
    assert float(lines[-1].rpartition(" ")[2]) <= 1e-4
