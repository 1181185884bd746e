"""Packed datasets: equal to their folder, damaged, killed and resumed, shrunk, searched."""

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sbirlib.data.batches import Prepared, load
from sbirlib.data.check import check
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import folder, from_lists, images
from sbirlib.data.named import dataset as named
from sbirlib.data.packed import pack, packed
from sbirlib.data.packed.layout import HEADER
from sbirlib.data.packed.reading import member
from sbirlib.data.packed.shrinking import shrunk
from sbirlib.data.split import split
from sbirlib.data.synthetic import synthetic
from sbirlib.data.transforms import Sbir, drawing
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH
from sbirlib.verification import verify

MODES = {"L": "png", "RGB": "jpg", "RGBA": "png", "LA": "png", "P": "png", "1": "png", "CMYK": "jpg", "I;16": "png"}


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def strokes(width: int, height: int, mode: str = "L") -> Image.Image:
    image = Image.new("L", (width, height), 255)
    ImageDraw.Draw(image).line((3, 5, width - 9, height - 4), fill=20, width=max(2, width // 40))
    if mode in ("LA", "RGBA"):  # drawn in the alpha channel, on black
        alpha = image.point(lambda v: 255 - v)
        return Image.merge("LA", (Image.new("L", image.size, 0), alpha)).convert(mode)
    return image.convert(mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with images of every mode, up to 60 pixels wide."""
    for category in ("ant", "bee", "cat", "dog", "eel"):
        for i, (mode, suffix) in enumerate(MODES.items()):
            for modality in ("sketch", "photo"):
                place = tmp_path / "data" / modality / category
                place.mkdir(parents=True, exist_ok=True)
                image = strokes(40 + i, 60 - i, mode if mode in ("LA", "RGBA") else "L") if modality == "sketch" else scene(60, 30 + i, i)
                image = Image.new("I;16", image.size, 40_000) if mode == "I;16" else image.convert(mode)
                image.save(place / f"{i}{'-1' * (modality == 'sketch')}.{suffix}")
    return tmp_path / "data"


def same_images(one: Dataset, other: Dataset) -> bool:
    return all(
        (a := one.read(i)).size == (b := other.read(i)).size and a.convert("RGBA").tobytes() == b.convert("RGBA").tobytes()
        for i in range(len(one))
    )


def test_every_batch_is_that_of_the_folder(root: Path, tmp_path: Path) -> None:
    plain = folder(root)
    small = pack(plain, tmp_path / "x.pack", progress=False)
    assert same_images(plain, small)
    assert [small.key(i) for i in range(len(small))] == [plain.key(i) for i in range(len(plain))]
    assert (small.name, small.categories, small.digest) == (plain.name, plain.categories, plain.digest)
    for options in ({}, {"sketch_fit": "pad", "photo_fit": "crop"}, {"polarity": "light", "photo_lines": "sobel"}):
        transform = Sbir(size=32, **options)  # type: ignore[arg-type]
        rows = [list(range(0, len(plain), 2)), list(range(1, len(plain), 2))]
        batches = [load(Prepared(data, transform), rows, seed=1, epoch=2, workers=w) for data, w in ((plain, 0), (small, 0), (small, 1))]
        for expected, *others in zip(*batches, strict=True):
            for batch in others:
                assert torch.equal(batch.images, expected.images)
                assert torch.equal(batch.category, expected.category)
                assert torch.equal(batch.instance, expected.instance)
                assert torch.equal(batch.modality, expected.modality)


@pytest.mark.parametrize("spec", ["seed:0", "ant,dog", "seed:1:unseen=2+validation", "classification"])
def test_a_split_is_that_of_the_folder(spec: str, root: Path, tmp_path: Path) -> None:
    pack(folder(root), tmp_path / "x.pack", progress=False)
    one, other = named(str(root), spec), named(str(tmp_path / "x.pack"), spec)
    assert one.split_digest == other.split_digest
    assert np.array_equal(one.split, other.split)  # type: ignore[arg-type]
    assert same_images(one.test, other.test)


def test_splits_and_their_digests_are_kept(tmp_path: Path, root: Path) -> None:
    data = synthetic(categories=6, unseen=2, instances=2, sketches=1, size=16)
    small = pack(data, tmp_path / "s.pack", progress=False)
    assert (small.split_name, small.split_digest) == (data.split_name, data.split_digest)
    assert same_images(data.test, small.test)
    published = Dataset(
        **{**vars(folder(root)), "splits": {"mine": {"unseen": ["eel"], "counts": {"query_sketches": 8}, "source": "here"}}}
    )
    small = pack(published, tmp_path / "p.pack", progress=False)
    assert small.splits == published.splits
    assert split(small, "mine").split_digest == split(published, "mine").split_digest
    with pytest.raises(InputError, match="say which split of data is meant: mine"):
        named(str(tmp_path / "p.pack"))
    assert named(str(tmp_path / "p.pack"), "mine").split_name == "data/mine"


def test_images_are_shrunk_and_never_enlarged(tmp_path: Path) -> None:
    data = from_lists(
        "x", sketches=[(strokes(300, 400), "a"), (strokes(50, 20), "a")], photos=[(scene(640, 480), "a"), (scene(31, 99), "a")]
    )
    small = pack(data, tmp_path / "x.pack", size=64, progress=False)
    assert [small.read(i).size for i in range(4)] == [(64, 85), (50, 20), (85, 64), (31, 99)]
    assert [small.read(i).mode for i in range(4)] == ["L", "L", "RGB", "RGB"]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_drawing_in_the_alpha_channel_stays_one(mode: str) -> None:
    sheet = strokes(400, 300, mode)
    small = shrunk(sheet, SKETCH, 100)
    expected = drawing(sheet).resize(small.size, Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(drawing(small), dtype=int) - np.asarray(expected, dtype=int)).max() <= 1


def test_coloured_sketches_keep_their_colours(tmp_path: Path) -> None:
    coloured = scene(20, 20)
    data = from_lists("x", sketches=[(coloured, "a"), (coloured.convert("L").convert("RGB"), "a")], photos=[(coloured, "a")])
    small = pack(data, tmp_path / "x.pack", progress=False)
    assert [small.read(i).mode for i in range(3)] == ["RGB", "L", "RGB"]
    assert same_images(data, small)


def test_with_jpeg_photos_alone_lose(root: Path, tmp_path: Path) -> None:
    plain = folder(root)
    small = pack(plain, tmp_path / "x.pack", jpeg=95, progress=False)
    assert same_images(plain.sketches, small.sketches)
    for i in range(1, len(plain.photos), 8):  # the photos that were JPEG before
        one, other = (np.asarray(data.photos.read(i).convert("RGB"), dtype=int) for data in (plain, small))
        assert np.abs(one - other).mean() < 4
    assert (tmp_path / "x.pack").stat().st_size < pack(plain, tmp_path / "y.pack", progress=False).reader.path.stat().st_size  # type: ignore[attr-defined]


def test_a_large_jpeg_is_decoded_at_a_part(tmp_path: Path) -> None:
    place = tmp_path / "data/photo/a"
    place.mkdir(parents=True)
    scene(1000, 800).save(place / "1.jpg", quality=95)
    small = pack(folder(tmp_path / "data"), tmp_path / "x.pack", size=100, progress=False).read(0)
    assert small.size == (125, 100)
    assert np.abs(np.asarray(small, dtype=int) - np.asarray(scene(1000, 800).resize((125, 100)), dtype=int)).mean() < 3


def test_a_gallery_and_queries_are_read_from_it(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.pack"
    data = pack(folder(root), file, progress=False)
    assert images(file).modality.tolist() == [PHOTO] * 40
    assert images(str(file), modality="sketch").modality.tolist() == [SKETCH] * 40
    path = images(file).path(3)
    assert path == str(file / "photo/ant/3.png")
    found = member(path)
    assert found is not None
    assert found.tobytes() == data.photos.read(3).tobytes()
    assert member(file / "photo/ant") is None
    assert member(root / "photo/ant/3.png") is None
    pack(data.photos, tmp_path / "photos.pack", progress=False)
    with pytest.raises(InputError, match="no sketch in"):
        images(tmp_path / "photos.pack", modality="sketch")
    assert len(check(str(file)).shared) == len(check(str(root)).shared)


def test_a_reader_is_opened_anew_in_another_process(root: Path, tmp_path: Path) -> None:
    data = pack(folder(root), tmp_path / "x.pack", progress=False)
    assert same_images(pickle.loads(pickle.dumps(data)), data)


def test_the_same_is_left_and_another_is_refused(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.pack"
    pack(folder(root), file, progress=False)
    before = file.stat()
    assert len(pack(folder(root), file, progress=False)) == 80
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    for data, options in ((folder(root), {"size": 32}), (folder(root), {"jpeg": 90}), (folder(root).photos, {})):
        with pytest.raises(InputError, match="is there, of other images, labels or options"):
            pack(data, file, progress=False, **options)
    os.utime(root / "photo/ant/1.jpg", ns=(1, 1))
    with pytest.raises(InputError, match="is there, of other images"):
        pack(folder(root), file, progress=False)


def test_wrong_input_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.pack, got .*x\.bin.*: say x\.pack"):
        pack(folder(root), tmp_path / "x.bin")
    with pytest.raises(InputError, match="size = 2: expected"):
        pack(folder(root), tmp_path / "x.pack", size=2)
    with pytest.raises(InputError, match="leads out of the file"):
        pack(_with_keys(folder(root), "../"), tmp_path / "x.pack")
    (root / "photo/ant/1.jpg").write_bytes((root / "photo/ant/1.jpg").read_bytes()[:-200])
    with pytest.raises(InputError, match=r"1\.jpg is damaged or cut short"):
        pack(folder(root), tmp_path / "x.pack", progress=False)
    with pytest.warns(UserWarning, match="skipped 1"):
        assert len(pack(folder(root, skip_bad=True), tmp_path / "x.pack", progress=False)) == 79


def _with_keys(data: Dataset, start: str) -> Dataset:
    return Dataset(**{**vars(data), "keys": [start + key for key in data.keys]})


def test_damage_is_found_where_it_is(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.pack"
    data = pack(folder(root), file, progress=False)
    content = file.read_bytes()
    end = HEADER + data.reader.counts.data_bytes  # type: ignore[attr-defined]
    del data
    for place in [9, 40, 200, 1500, 4000, *range(end, len(content), (len(content) - end) // 200)]:
        file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(InputError, match=r"x\.pack"):
            packed(file)
        assert [finding.state for finding in verify(file)] == ["damaged"]
    for length in (0, 5, 4000, 5000, end, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"x\.pack"):
            packed(file)
    file.write_bytes(content + b"\0")
    with pytest.raises(InputError, match="damaged or cut short"):
        packed(file)
    file.write_bytes(content[: HEADER + 100] + bytes([content[HEADER + 100] ^ 1]) + content[HEADER + 101 :])
    with pytest.raises(InputError, match="the image sketch/ant/0-1.png is not that of its digest"):
        packed(file).read(0)
    assert packed(file).read(1).size == (41, 59)
    assert len(packed(file, skip_bad=True)) == 79
    assert [finding.state for finding in verify(tmp_path)] == ["damaged"]
    file.write_bytes(content)
    assert [finding.state for finding in verify(file)] == ["whole"]
    with pytest.raises(InputError, match=r"2400 pixels, over the limit max_pixels=1000|over the limit"):
        packed(file, max_pixels=1000)


def test_an_open_file_takes_few_bytes_an_image(tmp_path: Path) -> None:
    n, dot = 5000, Image.new("L", (1, 1))
    labels = np.arange(n) % 2
    keys = [f"photo/a/{i:040d}.jpg" for i in range(n)]
    data = Dataset.of("dots", categories=["a", "b"], modality=labels, category=labels, instance=labels, keys=keys, reader=lambda i: dot)
    pack(data, tmp_path / "x.pack", progress=False)
    tracemalloc.start()
    try:
        small = packed(tmp_path / "x.pack")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(small) == n
    assert used / n < 45  # three labels and a position of 8 bytes each, and a mark that the image was checked; all else is mapped


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*none\.pack"):
        packed(tmp_path / "none.pack")
    for content in (b"", b"\x89PNG", os.urandom(9000)):
        (tmp_path / "x.pack").write_bytes(content)
        with pytest.raises(InputError, match="is no dataset of `sbirlib pack`"):
            packed(tmp_path / "x.pack")


@pytest.mark.parametrize("name", ["qdphoto", "shoe304"])
def test_real_data_packed_is_the_real_data(name: str, data_folder: Path, tmp_path: Path) -> None:
    plain = folder(data_folder / name)
    small = pack(plain, tmp_path / "x.pack", progress=False)
    assert small.digest == plain.digest
    assert named(str(tmp_path / "x.pack"), "classification").split_digest == named(str(data_folder / name), "classification").split_digest
    some = np.random.default_rng(0).choice(len(plain), 200, replace=False).tolist()
    rows = [i for i in some if min(plain.read(i).size) <= 256]
    assert len(rows) > 20
    transform = Sbir(size=64)
    one, other = (next(load(Prepared(data, transform), [rows], seed=0, epoch=0)).images for data in (plain, small))
    assert torch.equal(one, other)
