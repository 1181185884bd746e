"""Batch norms by modality as ONNX files: each side has its own."""

from pathlib import Path

import pytest
import torch
from tests.encoders.test_norms import RESNET, shaken
from tests.exchange.conftest import unchecked  # noqa: F401

from sbirlib import build
from sbirlib.data.dataset import Dataset
from sbirlib.encoders.backbone import Backbone
from sbirlib.exchange.onnx import export_onnx
from sbirlib.interfaces import PHOTO, SKETCH, Batch

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")


def test_each_side_is_exported_with_its_own_norms(tmp_path: Path, dataset: Dataset) -> None:
    encoder = {"name": "backbone", "backbone": RESNET, "pretrained": False, "dim": 8, "norms": "modality", "recalibrate": True}
    pipeline = build(encoder=encoder, transform={"size": 32}, phases=[])
    assert isinstance(pipeline.encoder, Backbone)
    shaken(pipeline.encoder)
    exported = export_onnx(pipeline, tmp_path)
    assert [file.name for file in exported.files] == ["query.onnx", "gallery.onnx", "preparation.json"]
    assert exported.difference < 1e-4
    images = torch.stack([pipeline.transform.prepare(dataset.photos.read(i), PHOTO) for i in range(3)]).float() / 255
    vectors = {}
    for side, modality in (("query", SKETCH), ("gallery", PHOTO)):
        session = onnxruntime.InferenceSession(tmp_path / f"{side}.onnx", providers=["CPUExecutionProvider"])
        (vectors[side],) = session.run([side], {"images": images.numpy()})
        labels = torch.full((3,), modality)
        with torch.no_grad():
            expected = pipeline.encoder.eval()(Batch(images, labels, labels, labels)).vector
        torch.testing.assert_close(torch.from_numpy(vectors[side]).reshape(3, -1), expected, atol=1e-4, rtol=1e-4)
    assert abs(vectors["query"][:, 0] - vectors["gallery"]).max() > 1e-2
