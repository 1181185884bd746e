"""Datasets: subsets, splits, label checks, and the description."""

import numpy as np
import pytest
from PIL import Image

from sbirlib.data.dataset import Dataset
from sbirlib.data.split import split
from sbirlib.interfaces import PHOTO, SKETCH


def tiny() -> Dataset:
    return Dataset.of(
        "tiny",
        categories=["a", "b", "c"],
        modality=[SKETCH, SKETCH, SKETCH, PHOTO, PHOTO, PHOTO],
        category=[0, 1, 2, 0, 1, 2],
        instance=[5, -1, 9, 5, -1, 9],
        keys=[f"k{i}" for i in range(6)],
        reader=lambda i: Image.new("L", (1, 1), i),
    )


def level(dataset: Dataset, i: int) -> int:
    return int(np.asarray(dataset.read(i))[0, 0])


def test_a_subset_reads_its_own_images_and_keeps_its_numbers() -> None:
    photos = tiny().photos
    assert [level(photos, i) for i in range(3)] == [3, 4, 5]
    assert [photos.key(i) for i in range(3)] == ["k3", "k4", "k5"]
    assert photos.subset([2, 0]).category.tolist() == [2, 0]
    assert level(photos.subset([2, 0]), 0) == 5
    assert tiny().sketches.instance.tolist() == [5, -1, 9]


def test_a_split_is_numbered_from_zero() -> None:
    train = split(tiny(), "b").train
    validation = split(tiny(), "b").validation
    assert sorted(train.categories + validation.categories) == ["a", "c"]
    assert train.category.tolist() == train.instance.tolist() == [0, 0]
    assert split(tiny(), "b").test.instance.tolist() == [-1, -1]


def test_without_a_split_all_is_trained_and_tested_on_and_nothing_validates() -> None:
    assert len(tiny().train) == len(tiny().test) == 6
    assert len(tiny().validation) == 0
    assert tiny().train.instance.tolist() == [0, -1, 1, 0, -1, 1]


def test_labels_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="must be of one length, got .*'category': 1"):
        Dataset.of(
            "x", categories=["a"], modality=[0, 1], category=[0], instance=[0, 1], keys=["p", "q"], reader=lambda i: Image.new("L", (1, 1))
        )


def test_describe_is_one_line() -> None:
    assert tiny().describe() == "tiny: 3 categories, 3 sketches, 3 photos"
    assert repr(tiny()) == "<tiny: 3 categories, 3 sketches, 3 photos>"  # not every key
    assert "; split unseen=b (" in split(tiny(), "b").describe()
