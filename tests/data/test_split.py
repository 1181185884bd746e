"""Splits: unseen classes, seeds, split files, classification, and mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbirlib.data.dataset import SPLITS, Dataset
from sbirlib.data.folder import folder, from_lists
from sbirlib.data.split import split
from sbirlib.data.split_file import RULE
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH

DOT = np.zeros((2, 2), dtype=np.uint8)


def named(name: str, rows: list[tuple[str, int, str, int]]) -> Dataset:
    """A dataset without pictures: rows of (key, modality, class, instance)."""
    categories = sorted({r[2] for r in rows})
    return Dataset.of(
        name,
        categories=categories,
        modality=[r[1] for r in rows],
        category=[categories.index(r[2]) for r in rows],
        instance=[r[3] for r in rows],
        keys=[r[0] for r in rows],
        reader=lambda i: pytest.fail("a split opens no picture"),
    )


def classes(count: int = 20, each: int = 2) -> Dataset:
    names = [f"c{i:02}" for i in range(count)]
    return named("classes", [(f"{m}/{c}/{i}.png", m, c, -1) for m in (SKETCH, PHOTO) for c in names for i in range(each)])


def shoes(photos: int = 20, sketches: int = 2) -> Dataset:
    rows = [(f"photo/shoe/{p:03}.jpg", PHOTO, "shoe", p) for p in range(photos)]
    return named("shoes", rows + [(f"sketch/shoe/{p:03}-{s}.png", SKETCH, "shoe", p) for p in range(photos) for s in range(sketches)])


def write(folder: Path, content: Any) -> str:
    (folder / "s.json").write_text(json.dumps(content), encoding="utf-8")
    return str(folder / "s.json")


@pytest.mark.parametrize("spec", [["c03", "c01"], "c03,c01", "c01 , c03"])
def test_unseen_classes_are_tested_and_a_tenth_of_the_seen_validates(spec: Any) -> None:
    data = split(classes(), spec)
    assert data.test.categories == ("c01", "c03")
    assert len(data.validation.categories) == 2
    assert len(data.train.categories) == 16
    assert not set(data.train.categories) & set(data.validation.categories)
    assert len(data) == len(data.train) + len(data.validation) + len(data.test) == 80
    assert data.split_name == "unseen=c01,c03"


@pytest.mark.parametrize(("spec", "unseen"), [(3, 4), ("seed:3", 4), ("seed:3:unseen=7", 7)])
def test_a_seed_draws_the_unseen(spec: str | int, unseen: int) -> None:
    data = split(classes(), spec)
    assert len(data.test.categories) == unseen
    assert len(data.validation.categories) == max(1, round((20 - unseen) / 10))
    assert data.split_name == f"seed:3:unseen={unseen}"


def test_the_seed_decides_and_the_order_of_the_data_does_not() -> None:
    data = classes()
    assert split(data, 3).split_digest == split(data, "seed:3").split_digest
    assert split(data, 3).split_digest != split(data, 4).split_digest
    assert split(data, "c01", seed=0).split_digest != split(data, "c01", seed=1).split_digest  # validation differs
    backwards = data.subset(np.arange(len(data))[::-1])
    assert split(backwards, 3).split_digest == split(data, 3).split_digest


def test_the_digest_covers_the_keys() -> None:
    assert split(classes(each=2), "c01").split_digest != split(classes(each=3), "c01").split_digest
    assert re.fullmatch("[0-9a-f]{64}", split(classes(), "c01").split_digest)
    assert split(classes(), "c01").describe().endswith(f"; split unseen=c01 ({split(classes(), 'c01').split_digest[:12]})")


@settings(deadline=None)
@given(count=st.integers(3, 30), seed=st.integers(0, 5))
def test_every_split_has_a_class_and_none_has_two_splits(count: int, seed: int) -> None:
    data = split(classes(count, each=1), seed)
    categories = [set(data.select(split).categories) for split in SPLITS]
    assert all(categories)
    assert sum(map(len, categories)) == len(set.union(*categories)) == count


def test_a_file_names_unseen_seen_and_validation(tmp_path: Path) -> None:
    names = [f"c{i:02}" for i in range(5, 20)]
    entry = {"unseen": [f"c{i:02}" for i in range(5)], "seen": names, "validation": ["c07", "c09"], "why": "words"}
    file = write(tmp_path, {"set": {"one": entry, "two": {"unseen": ["c00"]}}})
    data = split(classes(), f"{file}:set/one")
    assert data.test.categories == tuple(entry["unseen"])
    assert data.validation.categories == ("c07", "c09")
    assert data.split_name == "set/one"  # and no path of this machine
    assert len(split(classes(), f"{file}:set/two").validation.categories) == 2


def test_photos_split_by_instance_and_sketches_go_with_them(tmp_path: Path) -> None:
    names = [f"{p:03}" for p in range(20)]
    entry = {
        "test_photos": names[:5],
        "train_photos": names[5:19],
        "left_out_photos": names[19:],
        "left_out_sketches": ["000-1.png", "006-0.png"],
        "validation_photos": names[5:8],
    }
    data = split(shoes(), f"{write(tmp_path, {'shoe': entry})}:shoe")
    assert [(len(p.photos), len(p.sketches)) for p in (data.train, data.validation, data.test)] == [(11, 22), (3, 5), (5, 9)]
    keys = {data.key(i) for i in range(len(data))}
    assert not keys & {"photo/shoe/019.jpg", "sketch/shoe/019-0.png", "sketch/shoe/000-1.png", "sketch/shoe/006-0.png"}
    del entry["validation_photos"]
    carved = split(shoes(), f"{write(tmp_path, {'shoe': entry})}:shoe")
    assert (len(carved.validation.photos), len(carved.train.photos)) == (1, 13)


def test_classification_is_the_rule_of_sorted_names() -> None:
    rows = [(f"sketch/{c}/{i:02}.png", SKETCH, c, -1) for c, n in (("a", 10), ("b", 23), ("c", 3)) for i in reversed(range(n))]
    data = split(named("q", rows), "classification")
    split_of = {data.key(i): SPLITS[int(data.split[i])] for i in range(len(data))} if data.split is not None else {}
    for c, n in (("a", 10), ("b", 23), ("c", 3)):
        train = int(0.7 * n + 1e-9)
        validation = max(1, int(0.2 * train + 1e-9))
        expected = ["train"] * (train - validation) + ["validation"] * validation + ["test"] * (n - train)
        assert [split_of[f"sketch/{c}/{i:02}.png"] for i in range(n)] == expected


def test_a_rule_in_a_file_is_checked_against_its_counts(tmp_path: Path) -> None:
    data = named("q", [(f"sketch/a/{i}.png", SKETCH, "a", -1) for i in range(10)])
    file = write(tmp_path, {"ok": {"rule": RULE, "train": 7, "test": 3}, "off": {"rule": RULE, "train": 8}, "odd": {"rule": "toss a coin"}})
    assert len(split(data, f"{file}:ok").test) == 3
    with pytest.raises(InputError, match="the rule gives 7 images to train, the file says 8: is this the whole dataset"):
        split(data, f"{file}:off")
    with pytest.raises(InputError, match="unknown rule 'toss a coin'; expected 'per class, file names sorted"):
        split(data, f"{file}:odd")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("c33", "classes has no class 'c33'; did you mean"),
        ("zero_shot_15", "has no class 'zero_shot_15'; known: c00, c01, c02"),
        ("zero_shot_15", "A split is FILE.json:ENTRY, names of unseen classes, seed:N[:unseen=COUNT], fold:K:of=N, or classification"),
        ([], "the split unseen= of classes (20 classes) leaves nothing for test"),
        (
            "seed:1:unseen=19",
            "the split seed:1:unseen=19 of classes (20 classes) leaves nothing for train: training, validation and test each",
        ),
        ("seed:1:unseen=25", "leaves nothing for train"),
        ("seed:1:unseen=0", "leaves nothing for test"),
        ("fold:5:of=5", "fold:5:of=5 of classes: expected a fold from 0 to 4, and 3 folds or more"),
        ("fold:0:of=2", "fold:0:of=2 of classes: expected a fold from 0 to 1, and 3 folds or more"),
        ("fold:0:of=21", "expected a fold from 0 to 20, and 3 folds or more, but no more than its 20 classes"),
        ("seed:1+fold:0:of=21", "expected a fold from 0 to 20, and 3 folds or more, but no more than its 20 classes"),
        ("nowhere.json:a/b", "there is no file 'nowhere.json': expected a split file; a split in it is written FILE.json:ENTRY"),
    ],
)
def test_what_is_wrong_with_a_split_is_said(spec: Any, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        split(classes(), spec)


def test_all_classes_unseen_but_one_leaves_nothing_to_train_on() -> None:
    with pytest.raises(InputError, match=r"the split unseen=c00,c01 of classes \(3 classes\) leaves nothing for train"):
        split(classes(3), "c00,c01")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"unseen": ["c00", "unicorn"]}, "has no class 'unicorn'"),
        ({"unseen": ["c00"], "seen": ["c01", "c99"]}, "classes lacks the classes c99; did you mean"),
        ({"unseen": ["c00"], "seen": [f"c{i:02}" for i in range(1, 19)]}, "the split does not mention c19"),
        ({"unseen": ["c00"], "seen": ["c00", "c01"]}, "classes both seen and unseen: c00"),
        ({"unseen": ["c00"], "validation": ["c00"]}, "validation classes must be seen ones, but these are unseen: c00"),
        ({"unseen": "c00"}, "'unseen' must be a list of names, got 'c00'"),
        ({"rule": RULE, "test_photos": ["1"]}, "classes has no photo '1'"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(tmp_path: Path, entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        split(classes(each=1), f"{write(tmp_path, {'set': {'one': entry}})}:set/one")


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    file = write(tmp_path, {"set": {"one": {"unseen": ["c00"]}}, "note": "x"})
    with pytest.raises(InputError, match=r"has no split 'set/on'; did you mean 'set/one'\?"):
        split(classes(), f"{file}:set/on")
    with pytest.raises(InputError, match="has no split ''; known: set/one"):
        split(classes(), file)
    with pytest.raises(InputError, match="holds no split; an entry has one of 'unseen'"):
        split(classes(), f"{write(tmp_path, {'set': {}})}:set")
    (tmp_path / "s.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is not valid JSON"):
        split(classes(), f"{file}:set/one")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test_photos": ["000", "001", "777"]}, "shoes has no photo '777'"),
        ({"test_photos": ["000", "002"]}, "photo/shoe/002.jpg is in two lists of the split"),
        ({"test_photos": ["000"]}, "images of shoes are in no list of the split, such as photo/shoe/001.jpg"),
        ({"left_out_sketches": ["000-9.png"]}, "shoes has no sketch '000-9.png'; did you mean"),
    ],
)
def test_what_is_wrong_with_a_split_of_photos_is_said(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    entry = {"test_photos": ["000", "001"], "train_photos": ["002", "003", "004"]} | change
    with pytest.raises(InputError, match=re.escape(words)):
        split(shoes(5), f"{write(tmp_path, {'shoe': entry})}:shoe")


def test_photos_of_one_instance_stay_together_and_names_are_unambiguous(tmp_path: Path) -> None:
    rows = [("p/a/1.jpg", PHOTO, "a", 0), ("p/a/2.jpg", PHOTO, "a", 0), ("p/a/3.jpg", PHOTO, "a", 1), ("s/a/1.png", SKETCH, "a", 0)]
    file = write(tmp_path, {"s": {"test_photos": ["1"], "train_photos": ["2", "3"], "validation_photos": ["3"]}})
    with pytest.raises(InputError, match=r"p/a/2\.jpg and another photo of the same instance are in different lists"):
        split(named("x", rows), f"{file}:s")
    rows[2] = ("p/b/1.jpg", PHOTO, "b", 1)
    file = write(tmp_path, {"s": {"test_photos": ["1"], "train_photos": ["2"]}})
    with pytest.raises(InputError, match=r"'1' names several images \(p/a/1\.jpg, p/b/1\.jpg\): name them by their whole keys"):
        split(named("x", rows), f"{file}:s")


def test_classification_with_a_few_training_images_a_class() -> None:
    rows = [(f"sketch/{c}/{c}{i:02}.png", SKETCH, c, -1) for c in "ab" for i in range(20)]
    whole, few = split(named("q", rows), "classification"), split(named("q", rows), "classification:train=4")
    assert sorted(few.train.key(i) for i in range(8)) == [f"sketch/{c}/{c}{i:02}.png" for c in "ab" for i in range(4)]
    for name in ("validation", "test"):
        assert [few.select(name).key(i) for i in range(len(few.select(name)))] == [
            whole.select(name).key(i) for i in range(len(whole.select(name)))
        ]
    assert len(split(named("q", rows), "classification:train=99").train) == len(whole.train)
    assert few.split_digest != whole.split_digest


def test_each_class_is_unseen_in_one_fold_and_validates_in_another() -> None:
    folds = [split(classes(), f"fold:{k}:of=6") for k in range(6)]
    for name in ("test", "validation"):
        assert sorted(c for data in folds for c in data.select(name).categories) == sorted(classes().categories)
    for k, data in enumerate(folds):
        assert data.validation.categories == folds[(k + 1) % 6].test.categories
        assert len(data) == len(classes())
        assert data.split_name == f"fold:{k}:of=6"
        assert not set(data.train.categories) & {*data.test.categories, *data.validation.categories}
    assert len({data.split_digest for data in folds}) == 6
    final = split(classes(), "fold:2:of=6+validation")
    assert final.test.categories == folds[2].test.categories
    assert len(final.train.categories) == 20 - len(final.test.categories)


def test_folds_of_instances_keep_a_photo_and_its_sketches_together(tmp_path: Path) -> None:
    names = [f"{p:03}" for p in range(20)]
    file = write(tmp_path, {"few": {"test_photos": names[:5], "train_photos": names[5:19], "left_out_photos": names[19:]}})
    for spec in (f"{file}:few+", ""):
        folds = [split(shoes(), f"{spec}fold:{k}:of=4") for k in range(4)]
        assert all(len(data) == (57 if spec else 60) for data in folds)  # images that the base leaves out stay out
        unseen = [data.test.photos.key(i) for data in folds for i in range(len(data.test.photos))]
        assert sorted(unseen) == [f"photo/shoe/{name}.jpg" for name in names[: 19 if spec else 20]]
        for data in folds:
            for name in SPLITS:
                part = data.select(name)
                assert np.array_equal(np.unique(part.photos.instance), np.unique(part.sketches.instance))
                assert len(part.sketches) == 2 * len(part.photos)


def test_folds_of_what_is_seen_leave_the_test_split_out(tmp_path: Path) -> None:
    base = split(classes(), "seed:3:unseen=5")
    folds = [split(classes(), f"seed:3:unseen=5+seen+fold:{k}:of=4") for k in range(4)]
    names_seen = sorted({*base.train.categories, *base.validation.categories})
    assert sorted(c for data in folds for c in data.test.categories) == names_seen
    for k, data in enumerate(folds):
        assert data.split_name == f"seed:3:unseen=5+seen+fold:{k}:of=4"
        assert sorted({*data.train.categories, *data.validation.categories, *data.test.categories}) == names_seen
        assert len(data) == len(base.train) + len(base.validation)
    final = split(classes(), "seed:3:unseen=5+seen+fold:1:of=4+validation")
    assert len(final.train.categories) == 15 - len(folds[1].test.categories)

    names = [f"{p:03}" for p in range(20)]
    file = write(tmp_path, {"few": {"test_photos": names[:5], "train_photos": names[5:]}})
    parts = [split(shoes(), f"{file}:few+seen+fold:{k}:of=3").test.photos for k in range(3)]
    assert sorted(photos.key(i) for photos in parts for i in range(len(photos))) == [f"photo/shoe/{name}.jpg" for name in names[5:]]


def test_folds_of_images_have_as_many_of_each_class(tmp_path: Path) -> None:
    data = named("q", [(f"sketch/{c}/{i}.png", SKETCH, c, -1) for c in "ab" for i in range(10)])
    folds = [split(data, f"classification+fold:{k}:of=5") for k in range(5)]
    assert sorted(d.test.key(i) for d in folds for i in range(len(d.test))) == sorted(data.keys)
    for d in folds:
        assert [int((part.category == c).sum()) for part in (d.test, d.validation, d.train) for c in (0, 1)] == [2, 2, 2, 2, 6, 6]


def test_all_that_is_seen_may_train() -> None:
    base, final = split(classes(), "seed:3"), split(classes(), "seed:3+validation")
    assert len(final.train) == len(base.train) + len(base.validation)
    assert final.train.categories == tuple(sorted({*base.train.categories, *base.validation.categories}))
    assert final.test.categories == base.test.categories
    assert len(final.validation) == 0
    assert final.split_name == base.split_name + "+validation"
    assert final.split_digest != base.split_digest


def test_classification_needs_three_images_a_class() -> None:
    data = from_lists("x", sketches=[(DOT, "cat"), (DOT, "cat")])
    with pytest.raises(InputError, match="needs 3 images of each class and modality; 'cat' has 2"):
        split(data, "classification")


def test_the_splits_of_the_real_data_have_the_counts_of_their_file(data_folder: Path) -> None:
    file = data_folder / "splits.json"
    counts = {}
    for entry in ("qdphoto/zero_shot_15", "shoe304/instance", "quickdraw345/classification"):
        data = folder(data_folder / entry.split("/")[0], split=f"{file}:{entry}")
        counts[entry] = [(len(p.photos), len(p.sketches)) for p in (data.train, data.validation, data.test)]
    assert counts["qdphoto/zero_shot_15"][2] == (1237, 395)
    shoe = counts["shoe304/instance"]
    assert [photos for photos, _ in shoe] == [162, 41, 100]
    assert sum(sketches for _, sketches in shoe) == 912 - 11 - 3
    (_, train), (_, validation), (_, test) = counts["quickdraw345/classification"]
    assert (train + validation, test) == (6545, 3025)
