"""Loaders of the published datasets on folders with every class, and each trap of the published data."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.data.named import dataset
from sbirlib.data.published.facts import facts
from sbirlib.data.published.qmul import chair_v2, shoe_v2
from sbirlib.data.published.quickdraw import quickdraw_extended
from sbirlib.data.published.sketchy import sketchy, sketchy_extended
from sbirlib.data.published.tuberlin import tuberlin_extended
from sbirlib.data.split import split
from sbirlib.data.transforms import Sbir
from sbirlib.errors import InputError
from sbirlib.interfaces import SKETCH

Plant = Callable[[Iterable[str]], Path]


PHOTOS, SKETCHES = 3, 2  # of each class, and of each photo


def sketchy_tree(extended: int = 0) -> list[str]:
    paths = []
    for number, name in enumerate(facts("sketchy").classes):
        ids = [f"n{number:08}_{photo}" for photo in range(PHOTOS)]
        paths += [f"256x256/photo/tx_000000000000/{name}/{i}.jpg" for i in ids]
        paths += [f"256x256/sketch/tx_000000000000/{name}/{i}-{s}.png" for i in ids for s in range(1, SKETCHES + 1)]
        if extended:
            present = ids[1:] if number == 0 else ids  # one original is missing from the published folder
            paths += [f"EXTEND_image_sketchy/{name}/{i}.jpg" for i in [*present, *(f"ext_{e}" for e in range(1, extended + 1))]]
    return paths


def test_sketchy_pairs_each_sketch_with_its_photo(plant: Plant) -> None:
    data = sketchy(plant(sketchy_tree()))
    assert data.categories == tuple(sorted(facts("sketchy").classes))
    assert (len(data.sketches), len(data.photos)) == (125 * PHOTOS * SKETCHES, 125 * PHOTOS)
    sketch_counts = Counter(data.sketches.instance.tolist())
    assert set(sketch_counts.values()) == {SKETCHES}
    assert set(sketch_counts) == set(data.photos.instance.tolist())


@pytest.mark.parametrize("name", ["zeroshot1_sake25", "zeroshot2_yelamarthi21", "sempcyc25_seed0"])
def test_a_published_split_has_a_name_and_a_digest_of_its_own(plant: Plant, name: str) -> None:
    unseen = facts("sketchy").splits[name]["unseen"]
    data = dataset(f"sketchy:{plant(sketchy_tree())}", name)
    assert set(data.test.categories) == set(unseen)
    assert len(data.test.sketches) == len(unseen) * PHOTOS * SKETCHES
    assert f"split sketchy/{name} ({data.split_digest[:12]})" in data.describe()
    assert set(data.validation.categories) <= set(facts("sketchy").classes) - set(unseen)


def test_a_dataset_of_several_splits_needs_the_name_of_one(plant: Plant) -> None:
    tree = plant(sketchy_tree())
    with pytest.raises(InputError, match="which split of sketchy is meant: zeroshot1_sake25, zeroshot2_yelamarthi21, sempcyc25_seed0"):
        dataset(f"sketchy:{tree}")
    with pytest.raises(InputError, match="sketchy comes with the splits zeroshot1_sake25"):
        dataset(f"sketchy:{tree}", "zeroshot25")
    with pytest.raises(InputError, match="say sketchy:FOLDER"):
        dataset("sketchy", "zeroshot1_sake25")
    with pytest.raises(InputError, match="synthetic takes no folder"):
        dataset(f"synthetic:{tree}")


def test_what_is_in_both_folders_of_sketchy_extended_is_one_photo(plant: Plant) -> None:
    data = sketchy_extended(plant(sketchy_tree(extended=4)))
    names = Counter((data.categories[c], Path(key).stem) for c, key in zip(data.photos.category, keys(data.photos), strict=True))
    assert set(names.values()) == {1}
    assert len(data.photos) == 125 * (PHOTOS + 4)
    assert set(data.sketches.instance.tolist()) == set(data.photos.instance.tolist()) - {-1}


def test_the_published_number_of_photos_is_that_of_the_extended_set(plant: Plant) -> None:
    tree = plant(sketchy_tree(extended=1))
    assert sketchy(tree).splits["zeroshot1_sake25"]["counts"] == {"query_sketches": 15229}
    assert sketchy_extended(tree).splits["zeroshot1_sake25"]["counts"] == {"query_sketches": 15229, "gallery_photos": 14602}


def test_folders_that_another_work_renamed_are_of_their_class(plant: Plant) -> None:
    paths = (p.replace("hot-air_balloon", "hot_air_balloon").replace("jack-o-lantern", "jack_o_lantern") for p in sketchy_tree())
    data = sketchy(plant(paths))
    assert data.categories == tuple(sorted(facts("sketchy").classes))
    assert any("hot_air_balloon" in key for key in keys(data))


def test_a_tree_that_lacks_classes_is_refused_with_their_names(plant: Plant) -> None:
    with pytest.raises(InputError, match="lack 2 of the 125 published classes: airplane, zebra"):
        sketchy(plant(p for p in sketchy_tree() if "/airplane/" not in p and "/zebra/" not in p))


def test_a_folder_of_no_class_is_refused(plant: Plant) -> None:
    with pytest.raises(InputError, match="'unicorn' is of no class"):
        sketchy(plant([*sketchy_tree(), "256x256/photo/tx_000000000000/unicorn/1.jpg"]))


def test_a_folder_that_is_not_the_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the folders 256x256/sketch/tx_000000000000"):
        sketchy(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        sketchy(tmp_path / "nowhere")


@pytest.mark.parametrize("load", [shoe_v2, chair_v2, sketchy, sketchy_extended, tuberlin_extended, quickdraw_extended])
def test_options_are_held_before_a_file_is_read(load: Callable[..., Dataset], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{load.__name__}: max_pixels = 0: expected a whole number of at least 1"):
        load(tmp_path, max_pixels=0)


def test_invalid_sketches_are_no_queries_of_the_fine_grained_split(plant: Plant) -> None:
    tree = plant(sketchy_tree())
    info = tree / "info"
    info.mkdir()
    classes = facts("sketchy").classes
    (info / "testset.txt").write_text("".join(f"{name}/n{number:08}_0.jpg\n" for number, name in enumerate(classes)))
    invalid = {"error": ["n00000000_0-1"], "ambiguous": ["n00000001_0-2"], "pose": ["n00000002_0-1", "n00000002_1-1"], "context": []}
    for kind, ids in invalid.items():
        (info / f"invalid-{kind}.txt").write_text("".join(f"{i}\n" for i in ids))
    data = split(sketchy(tree), "fg_sangkloy")
    assert len(data.test.photos) == 125
    assert len(data.test.sketches) == 125 * SKETCHES - 3
    assert not any(Path(key).stem in {"n00000000_0-1", "n00000001_0-2", "n00000002_0-1"} for key in keys(data))
    assert any(Path(key).stem == "n00000002_1-1" for key in keys(data)), "an invalid sketch of a training photo stays"
    assert len(data.train.photos) + len(data.validation.photos) == 125 * (PHOTOS - 1)


def tuberlin_tree() -> list[str]:
    published = facts("tuberlin")
    folders = {name: folder for folder, name in published.aliases.items()}
    paths = []
    for number, name in enumerate(published.classes):
        paths += [f"png/{name}/{number * 80 + s}.png" for s in (1, 2)]
        paths += [f"ImageResized/{folders.get(name, name)}/{name}_{p}.{end}" for p, end in enumerate(("jpg", "JPEG", "jpg"))]
    return paths


def test_tuberlin_has_photos_of_both_endings_in_renamed_folders(plant: Plant) -> None:
    data = tuberlin_extended(plant(tuberlin_tree()))
    assert data.categories == tuple(sorted(facts("tuberlin").classes))
    assert set(Counter(data.photos.category.tolist()).values()) == {3}
    assert sum(key.endswith(".JPEG") for key in keys(data)) == 250
    assert sum("spacesshuttle" in key for key in keys(data)) == 3
    assert (data.instance == -1).all()
    zero_shot = split(data, "zeroshot_sake30")
    assert (len(zero_shot.test.sketches), len(zero_shot.test.photos)) == (30 * 2, 30 * 3)
    assert zero_shot.split_name == "tuberlin_extended/zeroshot_sake30"


def test_quickdraw_is_read_under_either_spelling(plant: Plant) -> None:
    classes = facts("quickdraw").classes
    paths = [f"QuickDraw_sketches_final/{name}/{s}.png" for name in classes for s in range(3)]
    paths += [f"QuickDraw_images_final/{name.replace('_', ' ')}/{p}.jpg" for name in classes for p in range(2)]
    data = split(quickdraw_extended(plant(paths)), "d2s30")
    assert data.categories == tuple(sorted(classes))
    assert (len(data.test.sketches), len(data.test.photos)) == (90, 60)


def shoes(first: int = 0, count: int = 20) -> list[str]:
    return [f"{1031000000 + i}" for i in range(first, first + count)]


def test_shoes_by_their_lists(plant: Plant) -> None:
    ids = shoes()
    tree = plant([*(f"ShoeV2_photo/{i}.png" for i in ids), *(f"ShoeV2_sketch_png/{i}_{s}.png" for i in ids for s in (1, 2, 3))])
    (tree / "photo_train.txt").write_text("".join(f"{i}.png\n" for i in ids[:15]))
    (tree / "photo_test.txt").write_text("".join(f"{i}.png\n" for i in ids[15:]))
    data = dataset(f"shoe_v2:{tree}", "published")
    assert data.categories == ("shoe",)
    assert (len(data.test.photos), len(data.test.sketches)) == (5, 15)
    assert (len(data.train.photos), len(data.validation.photos)) == (13, 2)
    (tree / "photo_test.txt").write_text("7.png\n")
    with pytest.raises(InputError, match=r"names 1 photos that are not there, such as 7"):
        shoe_v2(tree)


def test_shoes_by_their_folders(plant: Plant) -> None:
    train, test = shoes(), shoes(20, 5)
    splits = {"train": train, "test": test}
    tree = plant([p for name, ids in splits.items() for i in ids for p in (f"{name}B/{i}.png", f"{name}A/{i}_1.png", f"{name}A/{i}_2.png")])
    data = split(shoe_v2(tree), "published")
    assert (len(data.test.photos), len(data.test.sketches)) == (5, 10)
    assert (len(data.train.photos), len(data.validation.photos)) == (18, 2)


def test_a_drawing_in_the_alpha_channel_is_seen(plant: Plant) -> None:
    """Its colour channels are black all over: without the alpha channel it is a black square."""
    tree = plant([*(f"trainB/{i}.png" for i in shoes()), "testB/7.png", *(f"trainA/{i}_1.png" for i in shoes())])
    ink = np.zeros((32, 32, 4), dtype=np.uint8)
    ink[15:17, 4:28, 3] = 255
    (tree / "testA").mkdir()
    Image.fromarray(ink).save(tree / "testA" / "7_1.png")
    sketch = split(shoe_v2(tree), "published").test.sketches
    image = Sbir(size=32, sketch_fit="pad").prepare(sketch.read(0), SKETCH)
    assert image[0].numpy().tolist() == (255 - ink[..., 3]).tolist()


def keys(data: Dataset) -> list[str]:
    return [data.key(i) for i in range(len(data))]
