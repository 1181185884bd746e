"""Collections as they lie: folders at any depth, links, hidden files, manifests of other programs, and names that are no text."""

import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from sbirlib.data import collection as module
from sbirlib.data.collection import collection
from sbirlib.data.folder import images
from sbirlib.data.images import Skipped
from sbirlib.errors import InputError


def tree(root: Path, *files: str) -> Path:
    for level, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4), level).save(path, format="PNG")
    return root


def test_every_depth_and_case_and_no_hidden_file(tmp_path: Path) -> None:
    deep = "/".join("abcdefghij" * 6)
    root = tree(tmp_path, f"{deep}/x.png", "b.JpG", "a/c.TIFF", ".d/e.png", "a/._f.png", "g.txt", "h", "i.jpg.bak")
    assert collection(root).files == [f"{deep}/x.png", "a/c.TIFF", "b.JpG"]
    assert list(images(root).keys) == collection(root).files


def test_links_are_followed_once_and_end(tmp_path: Path) -> None:
    root = tree(tmp_path / "photos", "z/1.png", "2.png")
    elsewhere = tree(tmp_path / "elsewhere", "3.png", "deep/4.png")
    os.symlink(elsewhere, root / "a-link")
    os.symlink(elsewhere, root / "z" / "again")
    os.symlink("../z", root / "z" / "itself")
    os.symlink("..", root / "z" / "up")
    os.symlink(tmp_path, root / "out")  # holds the root: a loop, and others' photos
    tree(tmp_path / "others", "5.png")
    os.symlink(root / "a-link", elsewhere / "back")
    os.symlink(root / "2.png", root / "same.png")
    assert collection(root).files == ["2.png", "a-link/3.png", "a-link/deep/4.png", "same.png", "z/1.png"]
    assert collection(root).faults == []


def test_links_that_lead_nowhere_are_bad_files(tmp_path: Path) -> None:
    root = tree(tmp_path, "1.png")
    for name, target in {"gone.jpg": "nowhere.jpg", "folder": "no/such", "loop.png": "loop.png", "notes.txt": "nowhere.txt"}.items():
        os.symlink(target, root / name)
    assert collection(root).files == ["1.png", "gone.jpg", "loop.png"]
    assert collection(root).faults == ["folder"]
    with pytest.raises(InputError, match="folder is a link that leads nowhere: .*--skip-bad"):
        images(root)
    with pytest.warns(Skipped) as caught:
        assert list(images(root, skip_bad=True).keys) == ["1.png"]
    message = str(caught[0].message)
    assert message.startswith("skipped 3 of 4 images:")
    assert [name in message for name in ("gone.jpg is a link", "folder is a link", "loop.png", "notes.txt")] == [True, True, True, False]


def test_a_folder_that_cannot_be_listed_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, "1.png", "closed/2.png")

    def scandir(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return os.scandir(path)

    monkeypatch.setattr(module, "os", SimpleNamespace(stat=os.stat, path=os.path, scandir=scandir))
    assert (collection(root).files, collection(root).faults) == (["1.png"], ["closed"])
    with pytest.raises(InputError, match="closed is no regular file, but a folder that cannot be listed"):
        images(root)


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    root = tree(tmp_path, "1.png")
    os.mkfifo(root / "2.png")
    with pytest.raises(InputError, match="2.png is no regular file, but a folder, a pipe"):
        images(root)


def test_a_folder_called_photo_hides_no_other(tmp_path: Path) -> None:
    root = tree(tmp_path, "photo/cat/1.png", "photo/deep/er/2.png", "photo/3.png", "holiday/4.png", "5.png")
    gallery = images(root)
    assert dict(zip(gallery.keys, gallery.category.tolist(), strict=True)) == {
        "5.png": -1,
        "holiday/4.png": gallery.categories.index("holiday"),
        "photo/3.png": gallery.categories.index("photo"),
        "photo/cat/1.png": gallery.categories.index("cat"),
        "photo/deep/er/2.png": -1,
    }


def test_a_class_without_photos_stops_no_index(tmp_path: Path) -> None:
    root = tree(tmp_path, "photo/cat/1.png", "sketch/cat/1.png", "sketch/dog/1.png")
    (root / "photo" / "dog").mkdir()
    assert list(images(root).keys) == ["photo/cat/1.png"]
    assert list(images(root, modality="sketch").keys) == ["sketch/cat/1.png", "sketch/dog/1.png"]


@pytest.mark.parametrize("text", ["name,size\na,3\n", "", "\x00\xff", "path;modality\n"])
def test_a_manifest_of_another_program_is_none(tmp_path: Path, text: str) -> None:
    root = tree(tmp_path, "1.png")
    (root / "manifest.csv").write_text(text, encoding="latin-1")
    assert list(images(root).keys) == ["1.png"]


def test_a_datasets_manifest_without_a_column_is_still_wrong(tmp_path: Path) -> None:
    root = tree(tmp_path, "1.png")
    (root / "manifest.csv").write_text('\ufeff"path",modality,class\n', encoding="utf-8")
    with pytest.raises(InputError, match="lacks the column instance_id"):
        images(root)


def test_many_files_are_listed_without_a_look_at_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, *(f"{i % 3}/{i}.png" for i in range(30)))
    places: list[str] = []
    stat = os.stat

    def look(path: Path) -> os.stat_result:
        places.append(str(path))
        return stat(path)

    monkeypatch.setattr(module, "os", SimpleNamespace(stat=look, path=os.path, scandir=os.scandir))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(collection(root).files) == 30
    assert len(places) == 4  # the folders
