"""Files that cannot be read, folders that are away for a while, and the commands that say so."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.sync.folders import change, put, same_as_anew, synced
from tests.terminal import run

from sbirlib import Pipeline, open_index, sealed
from sbirlib.data.dataset import Dataset
from sbirlib.data.images import Skipped, open_image
from sbirlib.errors import InputError
from sbirlib.search import SearchIndex
from sbirlib.sync.source import UNSETTLED, Source, read_sources, write_sources


def test_photos_behind_a_link_that_leads_nowhere_for_a_while_stay(
    pipeline: Pipeline, photos: Path, dataset: Dataset, tmp_path: Path
) -> None:
    put(dataset, 9, tmp_path / "drive" / "9.png")
    (photos / "drive").symlink_to(tmp_path / "drive")
    index = pipeline.index(photos, progress=False)
    (tmp_path / "drive").rename(tmp_path / "away")
    with pytest.raises(InputError, match="drive is a link that leads nowhere"):
        index.sync(photos, progress=False)
    with pytest.warns(Skipped, match="drive is a link that leads nowhere"):
        assert synced(index, photos, skip_bad=True) == (0, 0, 0, 1, 6)
    assert len(index) == 7
    (photos / "drive").unlink()
    assert synced(index, photos) == (0, 1, 0, 0, 6)


def test_an_empty_folder_is_not_taken_for_an_order_to_forget_everything(index: SearchIndex, photos: Path, tmp_path: Path) -> None:
    photos.rename(tmp_path / "away")
    with pytest.raises(InputError, match="is no folder"):
        index.sync(photos)
    photos.mkdir()
    with pytest.raises(InputError, match="no photo in"):
        index.sync(photos, out=tmp_path / "index")
    assert len(open_index(tmp_path / "index")) == 6
    with pytest.raises(InputError, match=r"0\.png is no folder"):
        index.sync(tmp_path / "away" / "class0" / "0.png")


def test_bad_files_stop_or_are_listed_and_come_back_when_they_are_mended(
    index: SearchIndex, pipeline: Pipeline, photos: Path, dataset: Dataset, tmp_path: Path
) -> None:
    whole = (photos / "class0" / "0.png").read_bytes()
    (photos / "class0" / "0.png").write_bytes(whole[:-40])  # its header is sound
    (photos / "new.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"new\.png is empty"):
        index.sync(photos, out=tmp_path / "index")
    (photos / "new.png").unlink()
    with pytest.raises(InputError, match=r"0\.png is damaged"):
        open_index(tmp_path / "index").sync(photos, out=tmp_path / "index", progress=False)
    assert len(open_index(tmp_path / "index")) == 6
    (photos / "new.png").write_bytes(b"")
    opened = open_index(tmp_path / "index")
    with pytest.warns(Skipped) as caught:
        assert synced(opened, photos, out=tmp_path / "index", skip_bad=True) == (0, 0, 0, 2, 5)
    assert [name in str(caught[0].message) for name in ("skipped 2 of 7", "0.png is damaged", "new.png is empty")] == [True] * 3
    assert len(open_index(tmp_path / "index")) == 5
    (photos / "class0" / "0.png").write_bytes(whole)
    put(dataset, 20, photos / "new.png")
    assert synced(opened, photos, out=tmp_path / "index", skip_bad=True) == (2, 0, 0, 0, 5)
    assert same_as_anew(open_index(tmp_path / "index"), pipeline, photos)


def test_indexing_leaves_bad_photos_out_and_decodes_each_once(
    pipeline: Pipeline, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (photos / "class0" / "0.png").read_bytes()
    (photos / "class0" / "0.png").write_bytes(whole[:-40])
    decodings, decode = list[str](), open_image

    def counted(path: str, **options: Any) -> Image.Image:
        decodings.append(path)
        return decode(path, **options)

    monkeypatch.setattr("sbirlib.data.images.open_image", counted)
    fields = {f"class{i % 2}/{i}.png": {"year": i} for i in range(6)}
    with pytest.warns(Skipped, match="skipped 1 of 6 images:\n  .*0.png is damaged"):
        index = pipeline.index(photos, fields=fields, skip_bad=True, progress=False)
    assert sorted(r["year"] for r in index.index.all_records()) == [1, 2, 3, 4, 5]  # type: ignore[type-var]
    assert len(decodings) == 6
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 6 photos can be read: .*0\.png is empty"):
        pipeline.index(photos, skip_bad=True, progress=False)


def test_a_name_that_is_no_text_is_a_bad_file(pipeline: Pipeline, photos: Path, tmp_path: Path) -> None:
    """Records are JSON, which has no such names: an index that held one could not be opened again."""
    os.rename(photos / "class0" / "0.png", os.fsencode(photos / "class0") + b"/\xff.png")
    with pytest.raises(InputError, match="is no text in UTF-8: rename it"):
        pipeline.index(photos, progress=False)
    with pytest.warns(Skipped, match="is no text in UTF-8"):
        pipeline.index(photos, skip_bad=True, progress=False).save(tmp_path / "index")
    opened = open_index(tmp_path / "index")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Skipped)
        assert synced(opened, photos, skip_bad=True) == (0, 0, 0, 1, 5)


@pytest.mark.parametrize("text", ["{}x", "[]", '{"a": [1, 2]}', '{"a": [-1, 0, "%s", ""]}' % ("0" * 32), '{"a": [1, 0, "zz", ""]}'])
def test_a_damaged_file_of_sources_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sources-00000000.safetensors"
    notes = {"a/b.png": Source(5, 10**18, "0" * 32, "cat"), "c.png": Source(5, UNSETTLED, "f" * 32)}
    write_sources(file, notes)
    assert read_sources(file) == notes
    sealed.write(file, {"sources": torch.tensor(list(text.encode()), dtype=torch.uint8)}, {})
    with pytest.raises(InputError, match=r"sources-00000000\.safetensors"):
        read_sources(file)


def test_the_commands(
    index: SearchIndex, photos: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, of = str(tmp_path / "index"), ["--index", str(tmp_path / "index")]
    settings = ["--set", "encoder.backbone=resnet10t", "--set", "encoder.pretrained=false"]
    assert run(monkeypatch, "index", "clip", str(photos), "--out", out, *settings) == 2
    assert f"is an index already: `sbirlib sync {photos} --index {out}`" in capsys.readouterr().err
    change(photos, dataset)
    assert run(monkeypatch, "sync", str(photos), *of, "--dry-run") == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"added: {photos / 'new' / '20.png'}" in printed
    assert f"removed: {photos / 'class0' / '0.png'}" in printed
    assert f"changed: {photos / 'class1' / '1.png'}" in printed
    assert printed[-1] == "2 added, 2 removed, 1 changed, 3 kept; nothing was done (--dry-run)"
    (photos / "bad.png").touch()
    assert run(monkeypatch, "sync", str(photos), *of) == 2
    assert "bad.png is empty" in capsys.readouterr().err
    assert run(monkeypatch, "sync", str(photos), *of, "--skip-bad") == 0
    captured = capsys.readouterr()
    assert captured.out == f"2 added, 2 removed, 1 changed, 3 kept, 1 bad; 6 in {out}\n"
    assert captured.err == f"sbirlib: skipped 1 of 7 images:\n  {photos / 'bad.png'} is empty (0 bytes)\n"
    assert run(monkeypatch, "sync", str(tmp_path), "--index", str(photos)) == 2
    assert run(monkeypatch, "verify", out) == 0
