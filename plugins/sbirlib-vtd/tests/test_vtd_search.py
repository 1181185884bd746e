"""A query that adapts the features, asked of ordinary indexes of vectors."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from sbirlib import build, cli, load, open_index
from sbirlib.interfaces import PHOTO, SKETCH, Batch
from sbirlib.pipeline import Pipeline
from sbirlib.testing.world import separable

KINDS: dict[str, dict[str, Any]] = {"flat": {}, "milvus": {"uri": "photos.db", "index_type": "FLAT"}}


def pipeline_of_vtd() -> Pipeline:
    inner = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 12}
    descriptor = {"rows": 8, "dim": 10, "channels": 4, "use": "mix"}
    return build("vtd", encoder={"encoder": inner, "descriptor": descriptor, "gate_scale": 3.0}, transform={"size": 32})


def literal(pipeline: Pipeline, k: int) -> list[list[str]]:
    """For each sketch the nearest photos by the encoder's own distances."""
    data = separable()
    images = [pipeline.transform.prepare(data.read(i), int(data.modality[i])) for i in range(len(data))]
    labels = torch.zeros(len(data), dtype=torch.int64)
    batch = Batch(torch.stack(images) / 255, torch.from_numpy(data.modality), labels, labels)
    encoder = pipeline.encoder.eval()
    with torch.no_grad():
        distances = encoder.distances(encoder(batch))[batch.modality == SKETCH][:, batch.modality == PHOTO]
    paths = [data.photos.path(i) for i in range(len(data.photos))]
    return [[paths[j] for j in row.topk(k, largest=False).indices.tolist()] for row in distances]


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_finds_what_the_gated_distances_say(kind: str, tmp_path: Path) -> None:
    if kind == "milvus" and find_spec("pymilvus") is None:
        pytest.skip("the extra milvus is not installed")
    options = {k: str(tmp_path / v) if k == "uri" else v for k, v in KINDS[kind].items()}
    pipeline, data = pipeline_of_vtd(), separable()
    index = pipeline.index(data.photos, kind={"name": kind, **options}, progress=False)
    sketches = [data.sketches.read(i) for i in range(len(data.sketches))]
    hits = [[hit.path for hit in index.search(sketch, k=5)] for sketch in sketches]
    assert hits == literal(pipeline, 5)


def test_an_exported_pipeline_asks_the_same(tmp_path: Path) -> None:
    pipeline, data = pipeline_of_vtd(), separable()
    pipeline.index(data.photos, progress=False).save(tmp_path / "index")
    pipeline.export(tmp_path / "model.safetensors")
    sketch = data.sketches.read(3)
    before = [(hit.path, hit.score) for hit in open_index(tmp_path / "index").search(sketch, k=4)]
    after = [(hit.path, hit.score) for hit in load(tmp_path / "model.safetensors").index(data.photos, progress=False).search(sketch, k=4)]
    assert before == after


def test_it_is_searched_from_the_command_line_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, data = pipeline_of_vtd(), separable()
    pipeline.export(tmp_path / "model.safetensors")
    (tmp_path / "photos").mkdir()
    for i in range(len(data.photos)):
        data.photos.read(i).save(tmp_path / "photos" / f"{i:02d}.png")
    data.sketches.read(3).save(tmp_path / "sketch.png")

    def run(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["sbirlib", *words])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
        return capsys.readouterr().out

    index = str(tmp_path / "index")
    run("index", str(tmp_path / "model.safetensors"), str(tmp_path / "photos"), "--out", index)
    hits = json.loads(run("search", str(tmp_path / "sketch.png"), "--index", index, "-k", "5", "--json"))["hits"]
    assert [data.photos.path(int(Path(hit["path"]).stem)) for hit in hits] == literal(pipeline, 5)[3]
