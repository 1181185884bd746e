"""Splits, digests and arguments of the synthetic dataset, and the shortcuts that it must not leave."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sbirlib.data.dataset import SPLITS, Dataset
from sbirlib.data.synthetic import Synthetic, synthetic
from sbirlib.data.synthetic.categories import family
from sbirlib.data.synthetic.outline import FloatArray
from sbirlib.data.synthetic.shortcuts import SHORTCUTS, aspect
from sbirlib.data.synthetic.splits import TEST, TRAIN, VALIDATION, assign_splits
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.retrieval.evaluators import Category

CATEGORIES = 20


def test_unseen_categories_are_apart_and_siblings_stay_together(small: Dataset) -> None:
    assert small.split is not None
    splits = [{SPLITS[r] for r in small.split[small.category == c]} for c in range(CATEGORIES)]
    assert all(len(split) == 1 for split in splits)
    assert all(splits[c] == splits[family(c)] for c in range(CATEGORIES))
    assert [len(small.select(split).categories) for split in SPLITS] == [12, 2, 6]
    assert small.split_name == "synthetic-category-6"


@settings(max_examples=60, deadline=None)
@given(categories=st.integers(5, 60), data=st.data())
def test_every_possible_number_of_unseen_categories_is_met(categories: int, data: st.DataObject) -> None:
    unseen = data.draw(st.integers(1, categories - 4))
    split = assign_splits(categories=categories, unseen=unseen, instances=1, seed=3, disjoint="category")
    assert (split == TEST).sum() == unseen
    assert (split == VALIDATION).sum() >= 2
    assert (split == TRAIN).sum() >= 1
    assert all(split[c] == split[family(c)] for c in range(categories))


def test_no_unseen_category_stands_in_a_background(small: Dataset, reader: Synthetic) -> None:
    trained = {small.category[i] for i in range(len(small)) if small.split is not None and small.split[i] == SPLITS.index("train")}
    assert set(reader.extras) == trained


def test_half_of_the_unseen_may_train() -> None:
    sizes: dict[str, Any] = dict(categories=10, unseen=2, instances=6, sketches=1, size=32)
    whole, half = synthetic(**sizes), synthetic(**sizes, disjoint="half")
    assert half.test.categories == whole.test.categories
    assert len(half.test.photos) == len(whole.test.photos) // 2
    assert len(half.train.photos) == len(whole.train.photos) + len(half.test.photos)
    assert len(half.validation) == len(whole.validation)
    assert all(half.read(i).tobytes() == whole.read(i).tobytes() for i in range(0, len(whole), 7))
    assert half.split_digest != whole.split_digest


def test_disjoint_by_instance() -> None:
    data = synthetic(categories=5, unseen=1, instances=10, sketches=1, disjoint="instance")
    for split, count in zip(SPLITS, (7, 1, 2), strict=True):
        assert len(data.select(split).categories) == 5
        assert (np.bincount(data.select(split).photos.category) == count).all()
    assert not set(data.train.index.tolist()) & set(data.test.index.tolist())


def test_the_digest_covers_every_argument() -> None:
    few: dict[str, Any] = dict(categories=10, unseen=2, instances=4, sketches=1, size=32)
    base = synthetic(**few).split_digest
    assert base == synthetic(**few).split_digest
    changes: list[dict[str, object]] = [
        {"seed": 1},
        {"size": 33},
        {"difficulty": 0.4},
        {"disjoint": "instance"},
        {"turn": False},
        {"style_seed": 7},
    ]
    digests = [synthetic(**{**few, **change}).split_digest for change in changes]
    assert len({base, *digests}) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"categories": 4}, "categories = 4: .* of at least 5"),
        ({"unseen": 50}, "unseen=50 of categories=50 leave fewer than four"),
        ({"unseen": 0}, "unseen = 0: .* of at least 1"),
        ({"instances": 0}, "instances = 0"),
        ({"sketches": -1}, "sketches = -1"),
        ({"size": 8}, "size = 8: .* of at least 16"),
        ({"size": 64.0}, "size = 64.0: expected a whole number"),
        ({"seed": -1}, "seed = -1"),
        ({"difficulty": 1.2}, "difficulty = 1.2: .* of at least 0 and of at most 1"),
        ({"difficulty": float("nan")}, "difficulty = nan"),
        ({"disjoint": "categori"}, "did you mean 'category'"),
        ({"disjoint": "instance", "instances": 2}, "instances=2 leave none for training"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        synthetic(**arguments)  # type: ignore[arg-type]


def retrieve(dataset: Dataset, feature: Callable[[Image.Image], FloatArray]) -> float:
    """mAP@all of sketches against photos by the distance of a feature, as standard scores within each modality."""
    features = []
    for images in (dataset.sketches, dataset.photos):
        values = np.stack([feature(images.read(i)) for i in range(len(images))])
        features.append(torch.from_numpy((values - values.mean(0)) / (values.std(0) + 1e-9)))
    sketches, photos = features
    queries = torch.cat([2 * sketches, -torch.ones(len(sketches), 1)], 1)[:, None]
    gallery = torch.cat([photos, (photos**2).sum(1, keepdim=True)], 1)
    labels = [[torch.from_numpy(a) for a in (p.modality, p.category, p.instance)] for p in (dataset.sketches, dataset.photos)]
    return Category(metrics=["mAP@all"]).evaluate(Encoded(queries, *labels[0]), Encoded(gallery, *labels[1]))["mAP@all"]


@pytest.fixture(scope="module")
def unseen() -> Dataset:
    test = synthetic(instances=12, sketches=2, size=48).test
    return replace(test, reader=cache(test.reader))


@pytest.mark.parametrize(("name", "bound"), [("pixels", 1.5), ("mean colour", 1.5), ("ink", 1.5), ("aspect", 1.5), ("HOG", 4.0)])
def test_shortcuts_stay_near_chance(unseen: Dataset, name: str, bound: float) -> None:
    lucky = retrieve(unseen, lambda image: np.zeros(1))
    assert lucky == pytest.approx(0.1, abs=0.04)
    assert retrieve(unseen, SHORTCUTS[name]) < bound * lucky


def test_aspect_sees_a_wide_object() -> None:
    image = Image.new("L", (96, 96))
    ImageDraw.Draw(image).rectangle((10, 40, 80, 50), fill=255)
    assert aspect(image)[0] > 1
    assert aspect(image.transpose(Image.Transpose.ROTATE_90))[0] < -1
