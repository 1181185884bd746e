"""An index in step with its folder: new, changed, touched and missing photos, stops, and indexes of every kind."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.sync.folders import HOUR, aged, change, put, same_as_anew, synced

from sbirlib import Pipeline, open_index
from sbirlib import search as module
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.encoding import encode_to, index_encoded
from sbirlib.errors import InputError
from sbirlib.retrieval.encode import encode
from sbirlib.search import SearchIndex
from sbirlib.sync.source import UNSETTLED

KINDS: list[Any] = ["flat", {"name": "hnsw", "exhaustive": 3}, "ivfpq", "itq", {"name": "milvus"}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind if isinstance(kind, str) else kind["name"])
def test_every_kind_of_index_is_brought_in_step(
    kind: Any, pipeline: Pipeline, photos: Path, dataset: Dataset, tmp_path: Path, closed: Callable[[], None]
) -> None:
    if isinstance(kind, dict) and kind["name"] == "milvus":
        pytest.importorskip("milvus_lite")
        kind = {**kind, "uri": str(tmp_path / "photos.db"), "index_type": "FLAT"}
    out = tmp_path / "index"
    pipeline.index(photos, kind=kind, progress=False).save(out)
    change(photos, dataset)
    assert synced(open_index(out), photos, out=out) == (2, 2, 1, 0, 3)
    opened = open_index(out)
    assert same_as_anew(opened, pipeline, photos)
    closed()
    assert synced(opened, photos, out=out) == (0, 0, 0, 0, 6)


def test_nothing_is_read_where_nothing_has_changed(index: SearchIndex, photos: Path, tmp_path: Path, closed: Callable[[], None]) -> None:
    closed()
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "index").iterdir()}
    assert synced(index, photos, out=tmp_path / "index") == (0, 0, 0, 0, 6)
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "index").iterdir()} == before


def test_a_touched_photo_is_read_once_and_kept(
    index: SearchIndex, photos: Path, tmp_path: Path, closed: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(photos / "class0" / "0.png")
    with monkeypatch.context() as patch:
        patch.setattr("sbirlib.data.images.open_image", lambda *_, **__: pytest.fail("decoded"))
        assert synced(index, photos, out=tmp_path / "index") == (0, 0, 0, 0, 6)
    closed()
    assert synced(open_index(tmp_path / "index"), photos) == (0, 0, 0, 0, 6)


def test_another_content_of_the_same_size_and_a_time_too_close_to_tell_is_noticed(
    pipeline: Pipeline, photos: Path, dataset: Dataset
) -> None:
    path = photos / "class0" / "0.png"
    Image.new("RGB", (9, 9), (1, 2, 3)).save(path, "BMP")
    index, time = pipeline.index(photos, progress=False), path.stat()
    assert index.sources[str(path)].modified == UNSETTLED
    Image.new("RGB", (9, 9), (200, 2, 3)).save(path, "BMP")
    os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))
    assert path.stat().st_size == time.st_size
    assert synced(index, photos) == (0, 0, 1, 0, 5)


def test_another_size_is_noticed_whatever_the_time_says(index: SearchIndex, photos: Path) -> None:
    path = photos / "class0" / "0.png"
    time = path.stat()
    Image.new("RGB", (9, 9)).save(path)
    os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))
    assert path.stat().st_size != time.st_size
    assert synced(index, photos) == (0, 0, 1, 0, 5)


def test_photos_from_elsewhere_and_in_packed_files_stay(index: SearchIndex, photos: Path, dataset: Dataset, tmp_path: Path) -> None:
    index.add([put(dataset, 9, tmp_path / "photos-of-others" / "9.png")], progress=False)
    (photos / "holiday.sbir").write_bytes(b"a packed file")
    index.index.add(torch.eye(512)[:1], [{"path": str(photos / "holiday.sbir" / "cat" / "1.png")}])
    assert synced(index, photos) == (0, 0, 0, 0, 6)
    assert len(index) == 8


def test_a_stop_in_the_middle_loses_nothing_and_the_next_goes_on(
    pipeline: Pipeline, index: SearchIndex, photos: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(photos, dataset)
    for i in range(10, 17):
        put(dataset, i, photos / "more" / f"{i}.png")
    monkeypatch.setattr(module, "ROWS", 3)
    encodings = list[int]()

    def stopped(encoder: Any, photos: Dataset, *arguments: Any, **options: Any) -> Any:
        encodings.append(len(photos))
        if len(encodings) == 3:
            raise KeyboardInterrupt
        return encode(encoder, photos, *arguments, **options)

    monkeypatch.setattr(module, "encode", stopped)
    with pytest.raises(KeyboardInterrupt):
        index.sync(photos, out=tmp_path / "index", progress=False)
    half = open_index(tmp_path / "index")
    assert len(half) == 4 - 1 + 6  # two gone, two batches of three in, of which one is a photo anew
    assert sum(encodings[:2]) == 6
    assert synced(half, photos, out=tmp_path / "index") == (4, 0, 0, 0, 9)
    assert same_as_anew(open_index(tmp_path / "index"), pipeline, photos)


def test_an_index_that_another_process_changes_meanwhile_is_left_to_it(
    index: SearchIndex, photos: Path, dataset: Dataset, tmp_path: Path
) -> None:
    other = open_index(tmp_path / "index")
    put(dataset, 20, photos / "20.png")
    assert synced(other, photos, out=tmp_path / "index") == (1, 0, 0, 0, 6)
    with pytest.raises(InputError, match="was changed by another process since it was opened here"):
        index.sync(photos, out=tmp_path / "index", progress=False)
    assert len(open_index(tmp_path / "index")) == 7


def test_an_index_of_an_earlier_version_is_compared_by_its_vectors_once(
    index: SearchIndex, pipeline: Pipeline, photos: Path, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "old"
    index.index.save(
        out, about={"encoder": index.digest, "model": "model-00000000.safetensors"}, attached={"model-00000000.safetensors": index.export}
    )
    opened = open_index(out)
    assert opened.sources == {}
    put(dataset, 21, photos / "class1" / "1.png")
    caplog.set_level("INFO")
    assert synced(opened, photos, out=out) == (0, 0, 1, 0, 5)
    assert "6 photos were indexed without a note of their files" in caplog.text
    rows: Any = opened.index
    assert rows.size == 7  # those of the five stay where they are
    caplog.clear()
    again = open_index(out)
    assert synced(again, photos, out=out) == (0, 0, 0, 0, 6)
    assert caplog.text == ""
    assert same_as_anew(again, pipeline, photos)


def test_a_dry_run_changes_nothing(index: SearchIndex, photos: Path, dataset: Dataset, tmp_path: Path) -> None:
    change(photos, dataset)
    before = {file.name: file.read_bytes() for file in (tmp_path / "index").iterdir()}
    assert synced(index, photos, out=tmp_path / "index", dry_run=True) == (2, 2, 1, 0, 3)
    assert {file.name: file.read_bytes() for file in (tmp_path / "index").iterdir()} == before
    assert len(index) == 6


def test_fields_of_a_changed_photo_stay_and_a_new_class_comes(
    pipeline: Pipeline, index: SearchIndex, photos: Path, dataset: Dataset, tmp_path: Path
) -> None:
    path = photos / "class1" / "1.png"
    put(dataset, 21, path, age=HOUR // 2)
    assert synced(index, photos) == (0, 0, 1, 0, 5)
    record = next(r for r in index.index.all_records() if r["path"] == str(path))
    assert record == {"path": str(path), "category": "class1", "year": 2001}
    rows = "".join(f"class{i % 2}/{i}.png,photo,{'moon' if i == 1 else f'class{i % 2}'},\n" for i in range(6))
    (photos / "manifest.csv").write_text(f"path,modality,class,instance_id\n{rows}")
    assert synced(index, photos) == (0, 0, 1, 0, 5)
    record = next(r for r in index.index.all_records() if r["path"] == str(path))
    assert record == {"path": str(path), "category": "moon", "year": 2001}
    assert synced(index, photos) == (0, 0, 0, 0, 6)


def test_vectors_that_were_encoded_beforehand_know_their_files(
    pipeline: Pipeline, photos: Path, dataset: Dataset, tmp_path: Path, closed: Callable[[], None]
) -> None:
    encode_to(pipeline, photos, tmp_path / "vectors", rows=4, progress=False)
    index = index_encoded(pipeline, tmp_path / "vectors")
    closed()
    assert synced(index, photos) == (0, 0, 0, 0, 6)


def test_notes_follow_photos_that_are_added_removed_and_saved_elsewhere(
    index: SearchIndex, photos: Path, dataset: Dataset, tmp_path: Path, closed: Callable[[], None]
) -> None:
    index.remove([str(photos / "class0" / "0.png")])
    assert str(photos / "class0" / "0.png") not in index.sources
    index.add(images(photos).subset([0]), progress=False)
    index.save(tmp_path / "copy")
    shutil.rmtree(tmp_path / "index")
    index.add([put(dataset, 9, tmp_path / "9.png")], vectors=torch.eye(512)[:1])
    assert str(tmp_path / "9.png") not in index.sources
    closed()
    assert synced(open_index(tmp_path / "copy"), photos) == (0, 0, 0, 0, 6)
    again = open_index(tmp_path / "copy")
    again.save(tmp_path / "copy")
    assert len(open_index(tmp_path / "copy").sources) == 6
    names = [file.name for file in (tmp_path / "copy").iterdir() if file.name.startswith("sources-")]
    assert len(names) == 1
