"""Search by sketch: narrowing, growing and saving an index, and vectors encoded beforehand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sbirlib import Pipeline, build, open_index
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.data.images import open_image
from sbirlib.documents import with_digest
from sbirlib.encoding import encode_to, index_encoded, read_encoded
from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.manifest import MANIFEST
from sbirlib.search import SearchIndex

SMALL: dict[str, Any] = {"encoder": {"backbone": "resnet10t", "dim": 8, "pretrained": False}, "transform": {"size": 32}}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return build("mathm", **SMALL)


@pytest.fixture
def photos(dataset: Dataset, tmp_path: Path) -> Path:
    for i in range(9):
        place = tmp_path / "photos" / "photo" / f"class{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        dataset.photos.read(i).save(place / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def index(pipeline: Pipeline, photos: Path) -> SearchIndex:
    fields = {f"photo/class{i % 3}/{i}.png": {"year": 2000 + i} for i in range(9)}
    return pipeline.index(photos, fields=fields, progress=False)


def names(index: SearchIndex, sketch: Image.Image, **options: Any) -> set[str]:
    return {Path(hit.path).name for hit in index.search(sketch, **options)}


def test_a_search_is_narrowed_by_class_and_by_any_field(index: SearchIndex, dataset: Dataset) -> None:
    sketch = dataset.sketches.read(0)
    assert len(index.search(sketch)) == 9
    assert names(index, sketch, where={"category": "class1"}) == {"1.png", "4.png", "7.png"}
    assert names(index, sketch, where={"category": "class1", "year": [2004, 2005]}) == {"4.png"}
    hit = index.search(sketch, where={"year": 2004})[0]
    assert (hit.rank, hit.category, hit.record["year"]) == (1, "class1", 2004)
    with pytest.raises(InputError, match="no photo here has a field 'yaer'; did you mean 'year'"):
        index.search(sketch, where={"yaer": 2004})


def test_an_index_grows_and_forgets_across_saves(index: SearchIndex, dataset: Dataset, photos: Path, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    model = next(name for name in os.listdir(tmp_path / "index") if name.startswith("model"))
    opened, sketch = open_index(tmp_path / "index"), dataset.sketches.read(1)
    assert opened.search(sketch) == index.search(sketch)
    dataset.photos.read(20).save(tmp_path / "new.png")
    opened.add([tmp_path / "new.png"], progress=False)
    opened.remove([str(photos / "photo" / "class0" / "0.png")])
    opened.save(tmp_path / "index")
    again = open_index(tmp_path / "index")
    assert names(again, sketch) == {"new.png", *(f"{i}.png" for i in range(1, 9))}
    assert model in os.listdir(tmp_path / "index")
    again.save(tmp_path / "copy")
    assert open_index(tmp_path / "copy").search(sketch) == again.search(sketch)
    with pytest.raises(InputError, match="is in the index already"):
        again.add([tmp_path / "new.png"], progress=False)


def test_another_encoders_model_is_refused(index: SearchIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    about = json.loads((tmp_path / "index" / MANIFEST).read_text())
    (tmp_path / "index" / MANIFEST).write_text(json.dumps(with_digest({**about, "encoder": "of another"})))
    with pytest.raises(InputError, match="is not the encoder that made this index"):
        open_index(tmp_path / "index")
    (tmp_path / "index" / MANIFEST).write_text(json.dumps(about))
    build("mathm", **SMALL, seed=1).export(tmp_path / "index" / about["model"])
    for verify in (None, False, True):
        with pytest.raises(InputError, match=f"{about['model']}' is damaged"):
            open_index(tmp_path / "index", verify=verify)


def test_a_photo_that_is_gone_is_named(index: SearchIndex, dataset: Dataset, photos: Path) -> None:
    (photos / "photo" / "class1" / "4.png").unlink()
    with pytest.raises(InputError, match=r"4\.png is in the index but no longer there: .*sbirlib remove"):
        index.grid([dataset.sketches.read(0)])


def test_pictures_that_are_no_files_are_drawn(pipeline: Pipeline, dataset: Dataset) -> None:
    index = pipeline.index([dataset.photos.read(i) for i in range(3)], progress=False)
    assert index.grid([dataset.sketches.read(0)], k=3).width > 100


def test_a_blank_sketch_is_named_in_a_warning_and_still_has_hits(
    index: SearchIndex, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank, drawing = Image.new("RGB", (40, 40), "#f8f8f8"), dataset.sketches.read(0)
    (tmp_path / "drawings").mkdir()
    blank.save(tmp_path / "drawings" / "empty.png")
    drawing.save(tmp_path / "drawings" / "full.png")
    decodings: list[str] = []

    def decode(path: str, **options: int) -> Image.Image:
        decodings.append(path)
        return open_image(path, **options)

    monkeypatch.setattr("sbirlib.data.images.open_image", decode)
    queries: list[tuple[Any, str]] = [
        ([drawing, blank, drawing], "sketch[1]"),
        ([tmp_path / "drawings" / "full.png", tmp_path / "drawings" / "empty.png"], "drawings/empty.png"),
        (tmp_path / "drawings", "drawings/empty.png"),
    ]
    for sketches, name in queries:
        caplog.clear()
        assert [len(hits) for hits in index.search_all(sketches)] == [9] * (len(sketches) if isinstance(sketches, list) else 2)
        assert [(r.name, r.levelname) for r in caplog.records] == [("sbirlib.search", "WARNING")]
        assert f"{name} is blank" in caplog.text
    assert len(decodings) == 4  # each of two files in two searches
    assert "position" not in str(drawing.info)
    caplog.clear()
    index.search(drawing)
    assert caplog.text == ""


def test_a_grid_decodes_each_sketch_once(index: SearchIndex, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.sketches.read(0).save(tmp_path / "a.png")
    decodings: list[str] = []

    def decode(path: str, **options: int) -> Image.Image:
        decodings.append(path)
        return open_image(path, **options)

    monkeypatch.setattr("sbirlib.data.images.open_image", decode)
    assert index.grid([tmp_path / "a.png"], k=3).width > 100
    assert decodings == [str(tmp_path / "a.png")]


def test_a_folder_of_classes_can_be_narrowed_by_class(pipeline: Pipeline, photos: Path, dataset: Dataset) -> None:
    index = pipeline.index(photos / "photo", progress=False)
    assert names(index, dataset.sketches.read(0), where={"category": "class1"}) == {"1.png", "4.png", "7.png"}


def test_a_photo_that_was_added_over_the_pixel_limit_is_drawn(
    pipeline: Pipeline, photos: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = pipeline.index(images(photos), progress=False)
    monkeypatch.setitem(open_image.__kwdefaults__ or {}, "max_pixels", 10)
    assert index.grid([dataset.sketches.read(0)], k=3).width > 100


def test_fields_of_no_photo_are_refused(pipeline: Pipeline, photos: Path) -> None:
    with pytest.raises(InputError, match="fields are given for 'x.png', which is none of the 9 photos"):
        pipeline.index(photos, fields={"x.png": {"year": 1}}, progress=False)


def test_vectors_made_in_shares_are_those_made_at_once(
    pipeline: Pipeline, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    out = tmp_path / "vectors"
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        with pytest.raises(InputError, match=r"holds no vectors|should hold 3 files and misses 1"):
            read_encoded(out)
        monkeypatch.setenv("RANK", str(rank))
        assert len(encode_to(pipeline, photos, out, rows=4, progress=False)) == 2 - rank
    monkeypatch.undo()
    index = index_encoded(pipeline, out)
    at_once = pipeline.index(photos, progress=False)
    assert index.index.paths() == at_once.index.paths()
    vectors = torch.cat([torch.tensor(s.vectors) for s in read_encoded(out)])
    assert torch.allclose(vectors, pipeline.encode_images(photos, progress=False), atol=1e-5)  # a batch of another size rounds differently
    assert names(index, dataset.sketches.read(0), k=1) == names(at_once, dataset.sketches.read(0), k=1)


def test_embedding_goes_on_where_it_was_stopped(pipeline: Pipeline, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors"
    files = encode_to(pipeline, photos, out, rows=4, progress=False)
    times = {file: file.stat().st_mtime_ns for file in files}
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:100])
    assert encode_to(pipeline, photos, out, rows=4, progress=False) == files
    assert files[1].read_bytes() == whole
    assert {file for file in files if file.stat().st_mtime_ns != times[file]} == {files[1]}


def test_other_vectors_in_the_folder_are_refused(pipeline: Pipeline, photos: Path, tmp_path: Path) -> None:
    encode_to(pipeline, photos, tmp_path / "vectors", rows=4, progress=False)
    other = build("mathm", **SMALL, seed=1)
    with pytest.raises(InputError, match="of other images or another encoder"):
        encode_to(other, photos, tmp_path / "vectors", rows=4, progress=False)
    with pytest.raises(InputError, match="was made by another encoder"):
        index_encoded(other, tmp_path / "vectors")
    with pytest.raises(InputError, match="which is not of these 9 images"):
        encode_to(pipeline, photos, tmp_path / "vectors", rows=5, progress=False)


def test_sketches_are_embedded_as_queries(pipeline: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    dataset.sketches.read(0).save(tmp_path / "a.png")
    encode_to(pipeline, images(tmp_path / "a.png", modality="sketch"), tmp_path / "out", side="query", progress=False)
    assert read_encoded(tmp_path / "out")[0].vectors.ndim == 3


def test_photos_are_removed_by_relative_paths(index: SearchIndex, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(index)
    monkeypatch.chdir(photos)
    index.remove(["photo/class0/0.png"])
    assert len(index) == before - 1
    with pytest.raises(InputError, match=r"class0/0.png' is not in the index"):
        index.remove(["photo/class0/0.png"])
