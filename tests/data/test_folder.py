"""Datasets of folders, manifests and lists, and galleries of photos: labels, pairs, limits, and mistakes."""

import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import folder, from_lists, images
from sbirlib.data.images import PassedOver
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH


def tree(root: Path, *files: str) -> Path:
    """Small pictures, each of its own grey, at the given paths."""
    for level, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4), level).save(path, format="PNG")
    return root


def manifest(root: Path, *rows: str, header: str = "path,modality,class,instance_id") -> Path:
    (root / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root


def pairs(dataset: Dataset) -> dict[str, str]:
    """Each sketch's key with its photo's ("" without one)."""
    photo = {int(dataset.instance[i]): dataset.key(int(i)) for i in np.flatnonzero(dataset.modality == PHOTO) if dataset.instance[i] >= 0}
    return {dataset.key(int(i)): photo.get(int(dataset.instance[i]), "") for i in np.flatnonzero(dataset.modality == SKETCH)}


def test_folders_give_modality_class_and_key(tmp_path: Path) -> None:
    dataset = folder(
        tree(tmp_path / "pets", "sketch/dog/a.PNG", "sketch/cat/b.png", "photo/dog/c.JPEG", "photo/cat/d.WebP", "photo/cat/e.bmp")
    )
    assert dataset.name == "pets"
    assert dataset.categories == ("cat", "dog")
    assert list(dataset.keys) == ["sketch/cat/b.png", "sketch/dog/a.PNG", "photo/cat/d.WebP", "photo/cat/e.bmp", "photo/dog/c.JPEG"]
    assert dataset.modality.tolist() == [SKETCH, SKETCH, PHOTO, PHOTO, PHOTO]
    assert dataset.category.tolist() == [0, 1, 0, 0, 1]
    assert dataset.instance.tolist() == [-1] * 5
    assert [np.asarray(dataset.read(i))[0, 0] for i in range(5)] == [1, 0, 3, 4, 2]
    assert dataset.describe() == "pets: 2 categories, 2 sketches, 3 photos"


def test_a_sketch_finds_its_photo_by_name_within_its_class(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        *("photo/a/X.jpg", "photo/a/n02-17.jpg", "photo/a/n02_5.jpg", "photo/a/alone.jpg", "photo/b/X.png"),
        *(
            "sketch/a/X.png",
            "sketch/a/X-2.png",
            "sketch/a/X_13.png",
            "sketch/a/n02-17.png",
            "sketch/a/n02-17-1.png",
            "sketch/a/n02_5_2.png",
        ),
        *("sketch/a/n02-18.png", "sketch/a/X-y.png", "sketch/b/X-1.png"),
    )
    dataset = folder(root)
    assert pairs(dataset) == {
        "sketch/a/X.png": "photo/a/X.jpg",
        "sketch/a/X-2.png": "photo/a/X.jpg",
        "sketch/a/X_13.png": "photo/a/X.jpg",
        "sketch/a/n02-17.png": "photo/a/n02-17.jpg",
        "sketch/a/n02-17-1.png": "photo/a/n02-17.jpg",
        "sketch/a/n02_5_2.png": "photo/a/n02_5.jpg",
        "sketch/a/n02-18.png": "",
        "sketch/a/X-y.png": "",
        "sketch/b/X-1.png": "photo/b/X.png",
    }
    assert dataset.instance[list(dataset.keys).index("photo/a/alone.jpg")] == -1
    assert set(dataset.instance.tolist()) == {-1, 0, 1, 2, 3}


def test_a_sketch_of_two_photos_is_an_error_and_two_photos_without_it_are_not(tmp_path: Path) -> None:
    root = tree(tmp_path, "photo/a/1.jpg", "photo/a/1.JPEG", "sketch/a/2.png")
    assert len(folder(root)) == 3
    tree(root, "sketch/a/1-1.png")
    with pytest.raises(InputError, match=r"the sketch sketch/a/1-1\.png may belong to photo/a/1\.JPEG or photo/a/1\.jpg: rename one"):
        folder(root)


def test_a_manifest_wins_and_names_classes_and_instances(tmp_path: Path) -> None:
    root = tree(tmp_path, "sketch/wrong/1.png", "x/1.png", "x/2.png", "x/3.png", "x/4.png")
    manifest(
        root,
        *("x/1.png,sketch,cat,7,me", "x/2.png,photo,cat,7,me", "x/3.png,photo,dog,7,you", "x/4.png,sketch,dog,,you"),
        header="path,modality,class,instance_id,source",
    )
    dataset = folder(root)
    assert list(dataset.keys) == ["x/1.png", "x/2.png", "x/3.png", "x/4.png"]
    assert dataset.categories == ("cat", "dog")
    assert dataset.instance.tolist() == [0, 0, 1, -1]  # an id names an instance within its class


@pytest.mark.parametrize("only", ["sketch", "photo"])
def test_one_modality_altogether_is_allowed(tmp_path: Path, only: str) -> None:
    dataset = folder(tree(tmp_path, f"{only}/a/1.png", f"{only}/b/1.png"))
    assert (len(dataset), dataset.categories) == (2, ("a", "b"))


@pytest.mark.parametrize(
    ("files", "rows", "words"),
    [
        (["sketch/a/1.png", "photo/a/1.png", "photo/moon/1.png"], [], "'moon' has no sketch: add them, or remove the class"),
        (["sketch/a/1.png", "sketch/sun/1.png", "photo/a/1.png"], [], "'sun' has no photo"),
        (["pictures/1.png"], [], "neither a sketch nor a photo folder; expected <root>/{sketch,photo}/<class>/<file>"),
        (["sketch/a/1.txt"], [], "sketch/a holds no image (."),
        (["x.png"], ["x.png,drawing,cat,"], "manifest.csv, line 2: unknown modality 'drawing'"),
        (["x.png"], ["x.png,skech,cat,"], "did you mean 'sketch'?"),
        (["x.png"], ["x.png,sketch,cat,", "y.png,sketch,cat,"], "manifest.csv, line 3"),
        (["x.png"], ["y.png,sketch,cat,"], "y.png does not exist; paths are relative to"),
        (["x.png"], ["x.png,sketch,,"], "the class of x.png is empty"),
        (["x.png"], ["x.png,sketch,cat,", "x.png,sketch,dog,"], "x.png was listed before"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, files: list[str], rows: list[str], words: str) -> None:
    tree(tmp_path, *files)
    if rows:
        manifest(tmp_path, *rows)
    with pytest.raises(InputError, match=re.escape(words)):
        folder(tmp_path)


def test_no_such_folder_an_empty_tree_and_missing_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder: .*nowhere; expected <root>"):
        folder(tmp_path / "nowhere")
    (tmp_path / "sketch").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        folder(tmp_path)
    with pytest.raises(InputError, match="lacks the columns class, instance_id; it needs path, modality, class, instance_id"):
        folder(manifest(tmp_path, "x.png,sketch", header="path,modality"))


def test_a_bad_image_is_an_error_or_skipped_and_listed(tmp_path: Path) -> None:
    root = tree(tmp_path, "sketch/a/1.png", "sketch/a/2.png", "photo/a/1.png")
    (root / "sketch/a/0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"sketch/a/0\.png is empty .*skip_bad=True"):
        folder(root)
    with pytest.warns(UserWarning, match=r"skipped 1 of 4 images:\n.*sketch/a/0\.png is empty"):
        dataset = folder(root, skip_bad=True)
    assert list(dataset.keys) == ["sketch/a/1.png", "sketch/a/2.png", "photo/a/1.png"]
    assert np.asarray(dataset.read(1))[0, 0] == 1


def test_skipping_may_not_silently_empty_a_class(tmp_path: Path) -> None:
    root = tree(tmp_path, "sketch/a/1.png", "photo/a/1.png", "photo/b/1.png")
    (root / "sketch/b").mkdir()
    (root / "sketch/b/1.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="skipped 1"), pytest.raises(InputError, match="'b' has no sketch"):
        folder(root, skip_bad=True)


def test_an_image_over_the_limit_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, "sketch/a/1.png")
    with pytest.raises(InputError, match=r"sketch/a/1\.png has 6 x 4 pixels, over the limit max_pixels=20"):
        folder(root, max_pixels=20)


def test_a_folder_may_be_split_at_once(tmp_path: Path) -> None:
    root = tree(tmp_path, *(f"{m}/{c}/1.png" for m in ("sketch", "photo") for c in "abcd"))
    dataset = folder(root, split="a")
    assert dataset.split_name == "unseen=a"
    assert dataset.test.categories == ("a",)


def test_options_of_a_folder_are_held_to_their_annotations(tmp_path: Path) -> None:
    for options, words in (
        ({"max_pixels": 0}, "folder: max_pixels = 0: expected a whole number of at least 1"),
        ({"skip_bad": "yes"}, "folder: skip_bad = 'yes': expected true or false"),
        ({"split": -1}, "folder: split = -1: expected a text, or a list, each item a text, or a whole number of at least 0, or none"),
        ({"split": 0.5}, "folder: split = 0.5"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            folder(tmp_path, **options)


def test_the_reader_crosses_to_another_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(folder(tree(tmp_path, "sketch/a/1.png"))))
    assert dataset.read(0).size == (6, 4)


def test_lists_of_paths_pictures_and_arrays(tmp_path: Path) -> None:
    tree(tmp_path, "1.png")
    array = np.full((5, 7, 3), 200, dtype=np.uint8)
    dataset = from_lists(
        "mine",
        sketches=[(tmp_path / "1.png", "cat", "tom"), (array[..., 0], "dog")],
        photos=[(Image.new("RGB", (9, 9)), "cat", "tom"), (array, "dog", None)],
    )
    assert dataset.categories == ("cat", "dog")
    assert dataset.category.tolist() == [0, 1, 0, 1]
    assert dataset.instance.tolist() == [0, -1, 0, -1]
    assert list(dataset.keys) == [str(tmp_path / "1.png"), "sketch[1]", "photo[0]", "photo[1]"]
    assert [dataset.read(i).size for i in range(4)] == [(6, 4), (7, 5), (9, 9), (7, 5)]


def test_what_is_wrong_with_lists_is_said(tmp_path: Path) -> None:
    dot = np.zeros((2, 2), dtype=np.uint8)
    with pytest.raises(InputError, match=r"sketch\[0\] is an array float64 \[2, 2\]; expected a path, a PIL image, or a uint8 array"):
        from_lists("x", sketches=[(dot.astype(float), "cat")])
    with pytest.raises(InputError, match=r"photo\[0\] is int; expected a path"):
        from_lists("x", photos=[(3, "cat")])
    with pytest.raises(InputError, match=r"sketch\[0\] is .*expected \(image, class\)"):
        from_lists("x", sketches=[("only-a-path.png",)])
    with pytest.raises(InputError, match="does not exist"):
        from_lists("x", sketches=[(tmp_path / "none.png", "cat")])
    with pytest.raises(InputError, match="the dataset 'x' is empty"):
        from_lists("x")
    with pytest.raises(InputError, match=r"1\.png is given twice; keep one"):
        from_lists("x", sketches=[(tree(tmp_path, "1.png") / "1.png", "cat")] * 2)


def test_a_gallery_is_any_folder_of_photos(tmp_path: Path) -> None:
    root = tree(tmp_path / "holiday", "b.jpg", "2020/a.png", "2020/deep/c.PNG", ".thumbnails/b.png", "notes.txt")
    gallery = images(root)
    assert list(gallery.keys) == ["2020/a.png", "2020/deep/c.PNG", "b.jpg"]
    assert gallery.modality.tolist() == [PHOTO] * 3
    assert gallery.categories == ("2020",)  # the name of a folder in the root; deeper down, or in the root itself, there is none
    assert gallery.category.tolist() == [0, -1, -1]
    assert gallery.instance.tolist() == [-1] * 3
    assert np.asarray(gallery.read(2))[0, 0] == 0


def test_a_gallery_from_a_dataset_keeps_its_classes(tmp_path: Path) -> None:
    gallery = images(tree(tmp_path, "sketch/cat/1.png", "photo/cat/1.png", "photo/dog/1.png"))
    assert list(gallery.keys) == ["photo/cat/1.png", "photo/dog/1.png"]
    assert gallery.categories == ("cat", "dog")
    assert gallery.category.tolist() == [0, 1]


def test_a_folder_of_classes_gives_their_names(tmp_path: Path) -> None:
    gallery = images(tree(tmp_path, "my-photos/cat/1.jpg", "my-photos/cat/2.jpg", "my-photos/dog/1.jpg") / "my-photos")
    assert gallery.categories == ("cat", "dog")
    assert gallery.category.tolist() == [0, 0, 1]


def test_image_files_that_cannot_be_read_are_counted_in_one_warning(tmp_path: Path) -> None:
    root = tree(tmp_path, "sketch/a/1.png", "sketch/a/2.jxl", "photo/a/1.svg", "photo/a/2.TIFF", "photo/a/3.JP2", "photo/a/.x.jxl")
    tree(root, "photo/a/9.SVG")
    for read, count in ((folder, 3), (images, 2)):
        with pytest.warns(
            PassedOver, match=rf"passed over {count} image files .*photo/a/1\.svg \(a vector format is not .*; 2 of them\)"
        ) as caught:
            keys = set(read(root).keys)
        assert len(caught) == 1
        assert ("sketch/a/2.jxl (JPEG XL is not supported)" in str(caught[0].message)) == (read is folder)
        assert {"photo/a/2.TIFF", "photo/a/3.JP2"} <= keys
    shutil.rmtree(root / "sketch")
    with pytest.warns(PassedOver, match="passed over 2 image files of"):
        assert len(images(root / "photo" / "a")) == 2


def test_a_missing_file_is_not_called_a_folder(tmp_path: Path) -> None:
    for name in ("nothere.png", "nothere.JXL"):
        with pytest.raises(InputError, match=rf"there is no file .*{name}: check its path") as caught:
            images(tmp_path / name, modality="sketch")
        assert "folder" not in str(caught.value).replace(str(tmp_path), "")


def test_a_gallery_of_one_file_or_of_a_list(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    assert list(images(tmp_path / "b.png").keys) == ["b.png"]
    gallery = images([tmp_path / "b.png", str(tmp_path / "a.png")])
    assert [np.asarray(gallery.read(i))[0, 0] for i in range(2)] == [1, 0]


def test_what_is_wrong_with_a_gallery_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no photo in .*expected files that end in"):
        images(tmp_path)
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"bad\.jpg is empty"):
        images(tmp_path)
    tree(tmp_path, "good.png")
    with pytest.warns(UserWarning, match="skipped 1 of 2"):
        assert list(images(tmp_path, skip_bad=True).keys) == ["good.png"]


@pytest.mark.parametrize(
    ("name", "classes", "sketches", "photos"), [("qdphoto", 61, 1516, 5039), ("shoe304", 1, 912, 304), ("quickdraw345", 345, 9570, 0)]
)
def test_real_data_has_the_counts_of_its_readme(data_folder: Path, name: str, classes: int, sketches: int, photos: int) -> None:
    dataset = folder(data_folder / name)
    assert (len(dataset.categories), len(dataset.sketches), len(dataset.photos)) == (classes, sketches, photos)
