"""Worlds: each has the difficulty that its name says, its solution has not, and the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sbirlib.data.dataset import Dataset
from sbirlib.data.synthetic import synthetic
from sbirlib.data.synthetic.worlds import WORLDS, Imbalance, Traits
from sbirlib.data.synthetic.worlds.parts import DARK, PALE
from sbirlib.data.synthetic.worlds.traits import FAITHFUL
from sbirlib.errors import InputError

SIZE = 48


def world(name: Any, *, solution: bool = False, **options: Any) -> Dataset:
    numbers: dict[str, Any] = {"categories": 10, "unseen": 3, "instances": 8, "size": SIZE, "distractors": False} | options
    return synthetic(**numbers, world=name, solution=solution)


def pixels(data: Dataset, i: int) -> NDArray[np.float64]:
    """Image i as grey levels [S, S]."""
    return np.asarray(data.read(i).convert("L"), dtype=np.float64)


@pytest.mark.parametrize("name", WORLDS)
def test_images_depend_on_seed_and_number_alone(name: Any) -> None:
    one, other = world(name), world(name)
    for i in (len(one) - 1, 0, 30):
        assert one.read(i).tobytes() == other.read(i).tobytes()
    assert one.read(0).size == (SIZE, SIZE)
    assert any(one.read(i).tobytes() != world(name, seed=1).read(i).tobytes() for i in range(3))
    assert len({data.split_digest for data in (one, world(name, solution=True), world("plain"))}) == 3


@pytest.mark.parametrize("name", WORLDS)
def test_the_solution_has_the_same_items_drawn_otherwise(name: Any) -> None:
    data, solution = world(name), world(name, solution=True)
    for column in ("modality", "category", "instance", "split"):
        np.testing.assert_array_equal(getattr(data, column), getattr(solution, column))
    assert any(data.read(i).tobytes() != solution.read(i).tobytes() for i in range(0, len(data), 7))


def test_the_plain_set_has_no_solution() -> None:
    with pytest.raises(InputError, match="world='plain' has none: choose a world, such as 'traits'"):
        world("plain", solution=True)
    with pytest.raises(InputError, match="world"):
        world("trait")


def hits(data: Dataset, *, weighted: bool) -> float:
    """Acc@1 within the category by the true values that images show, under the weights of each sketch's manner or equal ones."""
    reader = data.reader
    assert isinstance(reader, Traits)
    sketches, photos = data.sketches, data.photos
    drawn, own = (np.stack([reader.shown(int(i)) for i in part.index]) for part in (sketches, photos))
    manners = FAITHFUL[[reader.manner(int(i)) for i in sketches.index]]
    weight = manners.astype(float) if weighted else np.ones(manners.shape)
    distance = np.einsum("qpt,qt->qp", (drawn[:, None] - own) ** 2, weight)
    distance[sketches.category[:, None] != photos.category] = np.inf
    return float((photos.instance[distance.argmin(1)] == sketches.instance).mean())


def test_traits_are_told_by_the_weights_of_a_sketchs_manner() -> None:
    data = world("traits", instances=40)
    assert hits(data, weighted=True) > 2 * hits(data, weighted=False) > 3 / 40
    assert hits(world("traits", instances=40, solution=True), weighted=False) > 0.9


def test_manners_tell_neither_category_nor_instance() -> None:
    data = world("traits", instances=40)
    assert isinstance(data.reader, Traits)
    manners = np.array([data.reader.manner(int(i)) for i in data.sketches.index])
    by_category = [manners[data.sketches.category == c].mean() for c in range(10)]
    assert np.abs(np.array(by_category) - 0.5).max() < 0.2
    first, second = manners[::2], manners[1::2]  # two sketches of each photo
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


def test_rubbed_out_parts_are_pale_and_the_solution_has_the_own_part_alone() -> None:
    data, solution = world("parts", size=96), world("parts", size=96, solution=True)
    sketches = data.sketches.index[::5]
    pale, ink = [], []
    for i in map(int, sketches):
        sheet, clean = pixels(data, i), pixels(solution, i)
        pale.append(((sheet > (DARK[1] + PALE[0]) / 2) & (sheet < 230)).mean())
        ink.append(((clean < 128).sum() + 1) / ((sheet < 128).sum() + 1))
    assert np.mean(pale) > 0.03
    assert 0.1 < np.mean(ink) < 0.8, "the twig is missing"


def test_photos_of_the_world_of_style_have_textures_that_their_solution_lacks() -> None:
    data, solution = world("style"), world("style", solution=True)
    levels = [np.unique(pixels(each, 3) // 32).size for each in (data, solution)]
    assert (pixels(solution, 3) > 200).mean() > 0.5  # a drawing is white
    assert (pixels(data, 3) > 200).mean() < 0.1
    assert levels[0] >= 3


def cues(data: Dataset, part: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cue of each image of a part, and its category."""
    assert isinstance(data.reader, Imbalance)
    return np.array([data.reader.cue(int(i)) for i in part.index]), part.category


def agreement(cue: NDArray[np.int64], category: NDArray[np.int64]) -> float:
    """Share of images whose cue is the most frequent one of their category."""
    return float(np.mean([np.bincount(cue[category == c]).max() / (category == c).sum() for c in np.unique(category)]))


def test_cues_tell_training_categories_within_a_modality_alone() -> None:
    data = world("imbalance", instances=40)
    for part in (data.train.sketches, data.train.photos):
        assert 0.75 < agreement(*cues(data, part)) < 0.95
    solution = world("imbalance", instances=40, solution=True)
    for each, part in ((data, data.test.sketches), (data, data.test.photos), (solution, solution.train.photos)):
        assert agreement(*cues(each, part)) < 0.25
    sketch, photo = (
        {c: np.bincount(cue[category == c]).argmax() for c in np.unique(category)}
        for cue, category in (cues(data, data.train.sketches), cues(data, data.train.photos))
    )
    assert np.mean([sketch[c] == photo[c] for c in sketch]) < 0.5, "across modalities a cue tells nothing"
