"""Samplers: balanced classes, sketch-photo pairs, and shuffled images."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbirlib.data.dataset import IntArray
from sbirlib.data.samplers import Balanced, Pairs, Shuffled
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH


@dataclass
class Rows:
    modality: IntArray
    category: IntArray
    instance: IntArray

    def __len__(self) -> int:
        return len(self.modality)


def rows(counts: list[tuple[int, int]]) -> Rows:
    """Rows of classes with these counts (sketches, photos), shuffled; no instances."""
    labels = [(m, c) for c, both in enumerate(counts) for m, n in zip((SKETCH, PHOTO), both, strict=True) for _ in range(n)]
    modality, category = np.random.default_rng(0).permutation(np.array(labels)).T
    return Rows(modality, category, np.full(len(labels), -1))


def paired(photos: int, sketches: int) -> Rows:
    """Each photo's number is its instance, and each has as many sketches."""
    instance = np.concatenate([np.arange(photos), np.repeat(np.arange(photos), sketches)])
    modality = np.concatenate([np.full(photos, PHOTO), np.full(photos * sketches, SKETCH)])
    return Rows(modality, np.zeros_like(instance), instance)


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=3, max_size=12),
    per_modality=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_a_balanced_batch_is_class_by_class_sketches_then_photos(counts: list[tuple[int, int]], per_modality: int, epoch: int) -> None:
    labels = rows(counts)
    batches = Balanced(categories=3, per_modality=per_modality).batches(labels, seed=1, epoch=epoch)
    assert len(batches) == max(1, len(labels) // (6 * per_modality))
    for batch in batches:
        table = np.array(batch).reshape(3, 2, per_modality)
        assert len({int(labels.category[i]) for i in table[:, 0, 0]}) == 3
        for block in table:
            assert len(set(labels.category[block].ravel().tolist())) == 1
            for modality, group in zip((SKETCH, PHOTO), block, strict=True):
                assert set(labels.modality[group].tolist()) == {modality}
                there = counts[int(labels.category[group[0]])][0 if modality == SKETCH else 1]
                assert len(set(group.tolist())) == min(there, per_modality)  # repeats only where there are too few


@pytest.mark.parametrize(("classes", "categories"), [(7, 3), (16, 16), (20, 16), (33, 16)])
def test_classes_are_drawn_without_replacement_until_all_have_been(classes: int, categories: int) -> None:
    labels = rows([(40, 40)] * classes)
    batches = Balanced(categories=categories, per_modality=1).batches(labels, seed=0, epoch=0)
    order = [int(labels.category[batch[2 * p]]) for batch in batches for p in range(categories)]
    for start in range(0, len(order) - classes + 1, classes):
        assert sorted(order[start : start + classes]) == list(range(classes))


@pytest.mark.parametrize(
    "sampler", [Balanced(categories=3, per_modality=2), Pairs(pairs=4), Pairs(pairs=4, of="category"), Shuffled(size=5)]
)
def test_batches_depend_on_seed_and_epoch_alone(sampler: Balanced | Pairs | Shuffled) -> None:
    labels = paired(12, 2)
    labels.category = labels.instance % 4
    first = sampler.batches(labels, seed=0, epoch=0)
    np.random.default_rng().random()
    assert sampler.batches(labels, seed=0, epoch=0) == first
    assert sampler.batches(labels, seed=0, epoch=1) != first
    assert sampler.batches(labels, seed=1, epoch=0) != first
    assert all(type(i) is int for batch in first for i in batch)


def test_too_few_classes_for_a_balanced_batch() -> None:
    with pytest.raises(
        InputError, match="categories=16 classes, and there are 5 to train on: set the sampler's option categories to 5 or less"
    ):
        Balanced().batches(rows([(4, 4)] * 5), seed=0, epoch=0)


def test_a_class_of_one_modality_cannot_be_balanced() -> None:
    with pytest.raises(InputError, match="need both modalities of each class, and class 1 has no sketches"):
        Balanced(categories=2).batches(rows([(4, 4), (0, 4), (4, 4)]), seed=0, epoch=0)


def test_unlabelled_images_are_in_no_balanced_batch() -> None:
    labels = rows([(4, 4)] * 3)
    labels.category[labels.category == 2] = -1
    members = {i for batch in Balanced(categories=2, per_modality=2).batches(labels, seed=0, epoch=0) for i in batch}
    assert set(labels.category[list(members)].tolist()) == {0, 1}


def test_pairs_are_a_sketch_and_its_own_photo_and_every_sketch_comes_once() -> None:
    labels = paired(10, 3)
    batches = Pairs(pairs=5).batches(labels, seed=0, epoch=0)
    assert [len(b) for b in batches] == [10] * 6
    sketches, photos = np.array(batches).reshape(-1, 2).T
    assert (labels.modality[sketches] == SKETCH).all()
    assert (labels.modality[photos] == PHOTO).all()
    assert (labels.instance[sketches] == labels.instance[photos]).all()
    assert Counter(sketches.tolist()) == Counter(range(10, 40))
    for batch in batches:
        assert len(set(labels.instance[batch].tolist())) == 5  # ten instances in two batches: none twice in one


def test_pairs_leave_out_sketches_without_a_photo() -> None:
    labels = paired(6, 1)
    labels.instance[[6, 7]] = [-1, 99]
    batches = Pairs(pairs=4).batches(labels, seed=0, epoch=0)
    assert {i for batch in batches for i in batch if i >= 6} == {8, 9, 10, 11}


@pytest.mark.parametrize("per_category", [2, 3])
def test_pairs_come_in_groups_of_one_category_and_different_instances(per_category: int) -> None:
    labels = paired(20, 3)
    labels.category = labels.instance % 4  # five instances of each
    for epoch in range(3):
        batches = Pairs(pairs=6, per_category=per_category).batches(labels, seed=0, epoch=epoch)
        counts = Counter(row for batch in batches for row in batch[::2])
        assert max(counts.values()) == 1
        assert len(counts) >= 60 - 4 * 2 * per_category - 6  # all but the remainder, which fills no group or batch
        for batch in batches:
            assert (labels.instance[batch[::2]] == labels.instance[batch[1::2]]).all()
            for i in range(0, 6, per_category):
                group = batch[::2][i : i + per_category]
                assert len(set(labels.category[group])) == 1
                assert len(set(labels.instance[group])) == per_category


def test_groups_that_cannot_be_are_refused() -> None:
    labels = paired(5, 1)
    with pytest.raises(InputError, match="pairs=5 is not a multiple of per_category=2"):
        Pairs(pairs=5, per_category=2)
    labels.category = np.minimum(labels.instance, 1)  # one instance of category 0, four of category 1
    with pytest.raises(
        InputError, match="per_category=2 instances of each category are needed, each with a sketch and a photo, and 0 has 1"
    ):
        Pairs(pairs=2, per_category=2).batches(labels, seed=0, epoch=0)
    labels.category[:] = 0
    with pytest.raises(InputError, match="pairs=4 are needed in groups of 4, and there are 1 groups|sketches with a photo"):
        Pairs(pairs=8, per_category=4).batches(labels, seed=0, epoch=0)


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12),
    pairs=st.integers(1, 8),
    epoch=st.integers(0, 3),
)
def test_pairs_of_a_category_are_every_sketch_once_with_a_photo_of_its_class(counts: list[tuple[int, int]], pairs: int, epoch: int) -> None:
    labels, sketches = rows(counts), sum(number for number, _ in counts)
    sampler = Pairs(pairs=pairs, of="category")
    if sketches < pairs:
        with pytest.raises(
            InputError, match=f"a photo of their class are needed, and there are {sketches}: set the sampler's option pairs"
        ):
            sampler.batches(labels, seed=0, epoch=epoch)
        return
    batches = sampler.batches(labels, seed=0, epoch=epoch)
    assert [len(batch) for batch in batches] == [2 * pairs] * (sketches // pairs)
    sketch, photo = np.array(batches).reshape(-1, 2).T
    assert (labels.modality[sketch] == SKETCH).all()
    assert (labels.modality[photo] == PHOTO).all()
    assert (labels.category[sketch] == labels.category[photo]).all()
    assert len(set(sketch.tolist())) == len(sketch)


def test_pairs_of_a_category_are_random_sketches_and_random_photos() -> None:
    """Of 104 classes 32 random sketches are of 104 (1 - (103 / 104)^32) = 27.6 on average, and every photo has its turn."""
    labels = rows([(32, 10)] * 104)
    epochs = [Pairs(of="category").batches(labels, seed=0, epoch=epoch) for epoch in range(3)]
    classes = [len(set(labels.category[batch].tolist())) for batches in epochs for batch in batches]
    assert np.mean(classes) == pytest.approx(27.6, abs=0.5)
    counts = Counter(row for batches in epochs for batch in batches for row in batch[1::2])
    assert len(counts) > 0.99 * 1040
    assert max(counts.values()) < 30  # of 9.6 on average


def test_pairs_of_a_category_need_photos_of_each_class() -> None:
    labels = rows([(4, 4), (4, 0), (4, 4)])
    with pytest.raises(InputError, match="need photos of each class, and class 1 has none: add some, or leave the class out"):
        Pairs(pairs=2, of="category").batches(labels, seed=0, epoch=0)
    labels.category[labels.category == 1] = -1  # without a class a sketch has no part in it
    members = {i for batch in Pairs(pairs=2, of="category").batches(labels, seed=0, epoch=0) for i in batch}
    assert set(labels.category[list(members)].tolist()) == {0, 2}
    labels.category[:] = -1
    with pytest.raises(InputError, match="there are 0: no sketch has a class; use the sampler shuffled"):
        Pairs(pairs=2, of="category").batches(labels, seed=0, epoch=0)
    with pytest.raises(InputError, match="per_category=2 groups instances, and pairs are of a category"):
        Pairs(pairs=2, of="category", per_category=2)


def test_pairs_need_instances() -> None:
    with pytest.raises(InputError, match=r"pairs=32 sketches .* there are 0: this dataset has no instances; use the sampler balanced"):
        Pairs().batches(rows([(40, 40)]), seed=0, epoch=0)
    with pytest.raises(InputError, match="there are 6: set the sampler's option pairs lower"):
        Pairs().batches(paired(6, 1), seed=0, epoch=0)


@pytest.mark.parametrize(("modality", "count"), [("both", 21), ("sketch", 9), ("photo", 12)])
def test_shuffled_takes_every_image_of_its_modality_once(modality: Literal["both", "sketch", "photo"], count: int) -> None:
    labels = rows([(9, 12)])
    batches = Shuffled(size=5, modality=modality).batches(labels, seed=0, epoch=0)
    members = [i for batch in batches for i in batch]
    left = count % 5
    assert len(members) == len(set(members)) == count - (left == 1)  # a batch of one image is dropped
    assert {len(b) for b in batches} == {5} | ({left} if left > 1 else set())
    if modality != "both":
        assert set(labels.modality[members].tolist()) == {SKETCH if modality == "sketch" else PHOTO}


def test_shuffled_says_what_is_missing() -> None:
    with pytest.raises(InputError, match="needs two images of modality 'sketch', and there are 0"):
        Shuffled(modality="sketch").batches(rows([(0, 4)]), seed=0, epoch=0)
    with pytest.raises(InputError, match="Shuffled: modality = 'skecth': expected one of 'both', 'sketch', 'photo'; did you mean 'sketch'"):
        Shuffled(modality="skecth")  # type: ignore[arg-type]


def test_sizes_are_checked() -> None:
    with pytest.raises(InputError, match="Balanced: categories = 0: expected a whole number of at least 1"):
        Balanced(categories=0)
    with pytest.raises(InputError, match="Pairs: pairs = -3: expected a whole number of at least 1"):
        Pairs(pairs=-3)
    with pytest.raises(InputError, match="Shuffled: size = 1: expected a whole number of at least 2"):
        Shuffled(size=1)
