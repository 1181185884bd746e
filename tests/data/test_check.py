"""`sbirlib data check`: counts, faults, and the command."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sbirlib import cli
from sbirlib.data.check import check, examine
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_lists
from sbirlib.data.split import split


def picture(value: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8), value, dtype=np.uint8))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Ten classes of two photos with one sketch each; no two images are equal."""
    for c in range(10):
        for p in range(2):
            for m, modality in enumerate(("photo", "sketch")):
                file = tmp_path / "data" / modality / f"class{c}" / f"{p}{'-1' * m}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(c * 4 + p * 2 + m).save(file)
    return tmp_path / "data"


def test_a_sound_dataset_is_counted(tree: Path) -> None:
    report = check(str(tree), "class8,class9")
    assert report.faults == []
    assert [(c.split, c.classes, c.sketches, c.photos, c.photos_a_class) for c in report.counts] == [
        ("train", 7, 14, 14, (2, 2)),
        ("validation", 1, 2, 2, (2, 2)),
        ("test", 2, 4, 4, (2, 2)),
    ]
    assert (report.orphans, report.shared, report.repeated) == ((), (), 0)


def test_an_image_that_is_trained_on_and_tested_is_a_fault(tree: Path) -> None:
    data = check(str(tree), "class8,class9").dataset.train
    trained, tested = next(data.key(i) for i in range(len(data)) if data.key(i).startswith("photo")), "photo/class9/1.png"
    (tree / tested).write_bytes((tree / trained).read_bytes())
    report = check(str(tree), "class8,class9")
    assert report.shared == ((("train", trained), ("test", tested)),)
    assert report.faults == [f"the same image in train ({trained}) and test ({tested})"]


def test_an_image_that_repeats_one_of_its_split_is_counted(tree: Path) -> None:
    (tree / "photo/class9/1.png").write_bytes((tree / "photo/class9/0.png").read_bytes())
    report = check(str(tree), "class8,class9")
    assert (report.repeated, report.faults) == (1, [])


def test_an_image_that_cannot_be_read_is_a_fault(tree: Path) -> None:
    (tree / "photo/class0/0.png").write_bytes(b"no picture")
    report = check(str(tree), "class8,class9")
    assert len(report.faults) == 1
    assert "skipped 1 of 40 images" in report.faults[0]
    assert "class0/0.png" in report.faults[0]


def test_a_sketch_without_its_photo_is_an_orphan() -> None:
    photos = [(picture(1), "a", "one"), (picture(2), "b", "two")]
    sketches = [(picture(3), "a", "one"), (picture(4), "b", "three"), (picture(5), "b")]
    assert examine(from_lists("few", sketches, photos)).orphans == ("sketch[1]",)


def test_a_number_that_is_not_the_published_one_is_a_fault(tree: Path) -> None:
    whole = check(str(tree)).dataset
    entry = {"unseen": ["class9"], "counts": {"query_sketches": 2, "gallery_photos": 17}}
    data = split(Dataset(**{**vars(whole), "split": None, "splits": {"nine": entry}}), "nine")
    assert examine(data).faults == ["gallery photos of the test: 2, published are 17"]


def test_the_command_prints_draws_and_fails_on_a_fault(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sbirlib", "data", "check", str(tree), "--picture", str(output), "--size", "16"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    output = tmp_path / "batch.png"
    (tree / "photo/class0/9.jxl").touch()
    code, printed = run()
    assert code == 0  # a file that is passed over is named, and is no fault
    assert f"passed over: {tree / 'photo/class0/9.jxl'} (JPEG XL is not supported)" in printed
    assert "train       7        14        14      2 to 2            2 to 2" in printed
    assert Image.open(output).size[1] > 7 * 16
    for file in (tree / "photo").rglob("*.png"):
        picture(200).save(file)
    code, printed = run()
    assert code == 1
    assert "FAULT: the same image in train (photo/" in printed


def test_the_synthetic_set_has_no_fault() -> None:
    from sbirlib.data.synthetic import synthetic

    assert examine(synthetic(categories=6, unseen=2, instances=3, size=32)).faults == []
