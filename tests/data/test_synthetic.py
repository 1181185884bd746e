"""The synthetic set: categories, photos, sketches, splits, and in small the checks of benchmarks/experiments/synthetic_set.py."""

import pickle
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

from sbirlib.data.dataset import ROLES, Dataset
from sbirlib.data.synthetic import Synthetic, abstraction, synthetic
from sbirlib.data.synthetic.categories import MOST_OUTLINES, TOO_NEAR, family, grammars, silhouette, typical
from sbirlib.data.synthetic.frame import fitted, paint, turned
from sbirlib.data.synthetic.grammar import Figure, Grammar, Part, figure
from sbirlib.data.synthetic.outline import POINTS, FloatArray, outline
from sbirlib.data.synthetic.photo import OCCLUDED, _occlude
from sbirlib.data.synthetic.renderer import _values
from sbirlib.data.synthetic.shortcuts import SHORTCUTS, aspect
from sbirlib.data.synthetic.sketch import strokes
from sbirlib.data.synthetic.splits import TEST, TRAIN, VALIDATION, assign_splits
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Encoded
from sbirlib.retrieval.evaluators import Category

CATEGORIES = 20


@pytest.fixture(scope="module")
def small() -> Dataset:
    return synthetic(categories=CATEGORIES, unseen=6, instances=8, sketches=2, size=48)


@pytest.fixture(scope="module")
def kinds() -> tuple[Grammar, ...]:
    return grammars(0, CATEGORIES)


def reader(dataset: Dataset) -> Synthetic:
    assert isinstance(dataset.reader, Synthetic)
    return dataset.reader


# outlines


def test_superellipse_satisfies_its_equation() -> None:
    x, y = outline("superellipse", (4.0,), 0.6, 0.0).T
    np.testing.assert_allclose(np.abs(2 * x - 1) ** 4 + np.abs(2 * y / 0.6) ** 4, 1, atol=1e-9)


def test_ellipse_is_the_superellipse_of_exponent_two() -> None:
    np.testing.assert_allclose(outline("ellipse", (), 0.6, 0.0), outline("superellipse", (2.0,), 0.6, 0.0), atol=1e-12)


@pytest.mark.parametrize("corners", [3, 4, 5, 6])
def test_every_corner_of_a_polygon_is_a_point(corners: int) -> None:
    points = outline("polygon", (corners,), 1.0, 0.0) * 2 - [1, 0]
    radius = np.hypot(*points.T)
    assert (np.abs(radius - 1) < 1e-9).sum() == corners


def test_blob_passes_through_its_radii() -> None:
    radii = (0.5, 0.9, 0.7, 1.0, 0.6)
    points = outline("blob", radii, 1.0, 0.0) * 2 - [1, 0]
    np.testing.assert_allclose(np.hypot(*points.T)[:: POINTS // 5], radii)


def test_limb_tapers_to_a_point() -> None:
    x, y = outline("limb", (1.0,), 0.4, 0.0).T
    assert np.ptp(y[(x > 0.1) & (x < 0.2)]) > 4 * np.ptp(y[(x > 0.9) & (x < 1.0)])


def test_bending_keeps_the_length_of_the_axis() -> None:
    straight, bent = outline("limb", (0.0,), 0.0, 0.0), outline("limb", (0.0,), 0.0, 1.5)
    lengths = [np.hypot(*np.diff(points, axis=0).T).sum() for points in (straight, bent)]
    assert lengths[1] == pytest.approx(lengths[0], rel=1e-3)


# categories and instances


def test_more_categories_leave_the_first_as_they_are(kinds: tuple[Grammar, ...]) -> None:
    assert grammars(0, 9) == kinds[:9]


def test_another_seed_makes_other_categories(kinds: tuple[Grammar, ...]) -> None:
    assert all(one != other for one, other in zip(grammars(1, 9), kinds, strict=False))


def test_a_category_has_two_to_six_parts_and_eight_to_twenty_values(kinds: tuple[Grammar, ...]) -> None:
    for grammar in kinds:
        assert 2 <= len(grammar.parts) - 1 <= 6
        assert 8 <= grammar.values <= 20
        assert 1 <= grammar.joint < len(grammar.parts)


def test_three_of_ten_categories_are_siblings_that_differ_by_one_part(kinds: tuple[Grammar, ...]) -> None:
    siblings = [c for c in range(CATEGORIES) if family(c) != c]
    assert len(siblings) == 0.3 * CATEGORIES
    for c in siblings:
        one, other = kinds[c], kinds[family(c)]
        assert sum(a != b for a, b in zip(one.parts, other.parts, strict=True)) == 1


def overlap(one: FloatArray, other: FloatArray) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


def test_categories_are_unlike_one_another_but_for_siblings(kinds: tuple[Grammar, ...]) -> None:
    shapes = [silhouette(typical(grammar)) for grammar in kinds]
    for c in range(CATEGORIES):
        assert all(overlap(shapes[c], shapes[d]) < TOO_NEAR for d in range(c) if family(c) != d)
        assert len(typical(kinds[c]).outlines) <= MOST_OUTLINES


def test_an_instance_is_nearer_to_its_own_category_than_to_most_others(kinds: tuple[Grammar, ...]) -> None:
    shapes = [silhouette(typical(grammar)) for grammar in kinds]
    rng = np.random.default_rng(0)
    ranks = []
    for c, grammar in enumerate(kinds):
        shape = silhouette(figure(grammar, rng.uniform(-1, 1, grammar.values)))
        ranks.append(sum(overlap(shape, other) > overlap(shape, shapes[c]) for other in shapes))
    assert np.mean(ranks) < 2


@settings(max_examples=30, deadline=None)
@given(c=st.integers(0, CATEGORIES - 1), seed=st.integers(0, 1000))
def test_a_figure_is_centred_and_of_unit_size(c: int, seed: int) -> None:
    grammar = grammars(0, CATEGORIES)[c]
    seen = figure(grammar, np.random.default_rng(seed).uniform(-1, 1, grammar.values))
    points = seen.outlines.reshape(-1, 2)
    assert np.isfinite(points).all()
    assert seen.extent.max() == pytest.approx(1)
    np.testing.assert_allclose(points.max(0) + points.min(0), 0, atol=1e-9)


def test_a_mirrored_part_makes_an_upright_figure_symmetric() -> None:
    parts = (Part("ellipse", (), 0.7), Part("limb", (0.5,), 0.3, bend=0.6, at=0.2, angle=0.4, size=0.8, mirror=True))
    seen = figure(Grammar(parts, joint=1, upright=True), np.array([0.3, -0.8, 0.5, -0.2, 0.7]))
    assert len(seen.outlines) == 3
    np.testing.assert_allclose(np.sort(seen.outlines[..., 0].ravel()), -np.sort(seen.outlines[..., 0].ravel())[::-1], atol=1e-9)


def test_copies_radiate_and_a_hole_follows_its_outline() -> None:
    parts = (Part("ellipse", (), 1.0, hole=0.5), Part("limb", (0.0,), 0.2, copies=4, size=0.5, behind=True))
    seen = figure(Grammar(parts, joint=1, upright=False), np.zeros(5))
    assert seen.part.tolist() == [1, 1, 1, 1, 0, 0]
    assert seen.hole.tolist() == [False] * 5 + [True]
    np.testing.assert_allclose(seen.outlines[:4].mean(1).mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(seen.outlines[5], axis=0), 0.5 * np.ptp(seen.outlines[4], axis=0))


@pytest.mark.parametrize("c", [0, 7])
def test_instances_spread_evenly_over_their_values(c: int) -> None:
    values = _values(0, c, 11, 64)
    assert values.shape == (64, 11)
    assert np.abs(values).max() <= 1
    assert np.abs(values.mean(0)).max() < 0.05
    np.testing.assert_array_equal(_values(0, c, 11, 20), values[:20])


# frames


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), c=st.integers(0, CATEGORIES - 1), cover=st.floats(0.25, 0.7))
def test_a_turned_figure_fits_the_frame_and_covers_its_share_of_it(seed: int, c: int, cover: float) -> None:
    rng = np.random.default_rng(seed)
    grammar = grammars(0, CATEGORIES)[c]
    standing = turned(figure(grammar, rng.uniform(-1, 1, grammar.values)), rng, degrees=30, squeeze=0.8)
    standing = fitted(standing, rng, cover=cover)
    assert standing.outlines.min() >= 0
    assert standing.outlines.max() <= 1
    covered, longest = standing.extent.prod(), standing.extent.max()
    assert covered == pytest.approx(cover) or (covered < cover and longest == pytest.approx(0.94))  # a long one reaches the margins first


def test_a_turn_of_no_degrees_without_squeeze_changes_nothing() -> None:
    seen = square(0.0)
    np.testing.assert_allclose(turned(seen, np.random.default_rng(0), degrees=0, squeeze=1).outlines, seen.outlines)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_more_than_15_percent_of_the_figure_are_hidden(seed: int) -> None:
    labels = Image.new("L", (96, 96))
    last = paint(ImageDraw.Draw(labels), replace(square(0.0), outlines=square(0.0).outlines * 0.6 + 0.5), 96, 3)
    before = (np.asarray(labels) == 3).sum()
    _occlude(labels, np.random.default_rng(seed), (3, last))
    assert before * (1 - OCCLUDED) <= (np.asarray(labels) == 3).sum() <= before


# sketches


def square(*shifts: float) -> Figure:
    """Squares of unit size, each shifted to the right and drawn over the one before."""
    side, half = np.linspace(-0.5, 0.5, POINTS // 4, endpoint=False), np.full(POINTS // 4, 0.5)
    edge = np.concatenate([np.stack(xy, axis=1) for xy in ((side, -half), (half, side), (-side, half), (-half, -side))])
    return Figure(
        np.stack([edge + np.array([shift, 0]) for shift in shifts]), np.arange(len(shifts)), np.zeros(len(shifts), dtype=np.bool_)
    )


def test_a_sketch_without_abstraction_follows_visible_contours_only() -> None:
    seen = square(0.0, 0.5)
    seen = replace(seen, outlines=seen.outlines / 2)
    drawn = np.concatenate(strokes(seen, np.random.default_rng(0), abstraction=0, turn=False))
    drawn = (drawn - drawn.min(0)) / (drawn.max(0) - drawn.min(0)).max() * 0.75 + [-0.25, -0.25]
    inside_front = (drawn[:, 0] > 0.05) & (drawn[:, 0] < 0.45) & (np.abs(drawn[:, 1]) < 0.2)
    inside_back = (drawn[:, 0] > -0.2) & (drawn[:, 0] < -0.05) & (np.abs(drawn[:, 1]) < 0.2)
    assert not inside_front.any()
    assert not inside_back.any()
    assert len(drawn) > POINTS


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), free=st.floats(0, 1))
def test_strokes_stay_in_the_frame_and_the_root_is_never_left_out(seed: int, free: float) -> None:
    seen = square(0.0)
    lines = strokes(seen, np.random.default_rng(seed), abstraction=free, turn=True)
    assert sum(map(len, lines)) >= POINTS - 4 * 8
    assert all(line.min() >= 0 and line.max() <= 1 and line.shape[1] == 2 for line in lines)


def test_sketches_are_ink_on_white_and_strokes_are_where_the_ink_is(small: Dataset) -> None:
    i = reader(small).photos
    image = np.asarray(small.reader(i).convert("L"))
    assert image.max() == 255
    assert image.min() < 64
    points = (np.concatenate(reader(small).strokes(i)) * 48).astype(int).clip(0, 47)
    assert (image[points[:, 1], points[:, 0]] < 255).mean() > 0.95


def test_deviation_from_the_contour_grows_with_abstraction() -> None:
    grammar = grammars(0, CATEGORIES)[4]
    seen = typical(grammar)

    def strays(free: float) -> float:
        away = []
        for seed in range(10):
            points = np.concatenate(strokes(seen, np.random.default_rng(seed), abstraction=free, turn=False))
            points = (points - points.mean(0)) / points.std()
            ideal = seen.outlines.reshape(-1, 2) / seen.outlines.reshape(-1, 2).std()
            away.append(np.linalg.norm(points[:, None] - (ideal - ideal.mean(0)), axis=2).min(1).mean())
        return float(np.mean(away))

    low, middle, high = strays(0.0), strays(0.5), strays(1.0)
    assert low < middle < high


@pytest.mark.parametrize(("difficulty", "low", "high"), [(0.0, 0, 0), (0.5, 0, 1), (0.8, 0.6, 1), (1.0, 1, 1)])
def test_difficulty_is_the_mean_abstraction(difficulty: float, low: float, high: float) -> None:
    data = synthetic(categories=5, unseen=1, instances=40, sketches=2, difficulty=difficulty)
    values = abstraction(data.sketches)
    assert low <= values.min() <= values.max() <= high
    assert values.mean() == pytest.approx(difficulty, abs=0.05)
    assert not abstraction(data.photos).any()


def test_abstraction_is_refused_for_other_datasets(small: Dataset) -> None:
    with pytest.raises(InputError, match="only the synthetic set records abstraction"):
        abstraction(replace(small, reader=lambda i: small.read(i)))


# items


def test_an_item_depends_on_seed_and_position_alone(small: Dataset) -> None:
    again = pickle.loads(pickle.dumps(small.reader))
    items = (200, 7, 7, len(small) - 1)
    first = [np.asarray(small.reader(i)) for i in sorted(items)]
    for i in reversed(range(20)):
        small.reader(i)
    second = [np.asarray(again(i)) for i in sorted(items)]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_photos_and_sketches_are_rgb_of_the_given_size(small: Dataset) -> None:
    for i in (0, len(small) - 1):
        assert (small.read(i).mode, small.read(i).size) == ("RGB", (48, 48))


def test_sketch_and_photo_share_category_and_instance(small: Dataset) -> None:
    for row in (0, 37, 320, 479):
        name, k = small.key(row).split("/")[1], int(small.key(row).split("/")[2][:4])
        assert small.categories[small.category[row]] == name
        assert small.instance[row] == small.category[row] * 8 + k
        assert small.modality[row] == (PHOTO if small.key(row).startswith("photo") else SKETCH)
    assert small.key(0) == "photo/cat00/0000"
    assert small.key(160) == "sketch/cat00/0000-1"
    assert len(set(small.keys)) == len(small) == 20 * 8 * 3


def test_style_seed_changes_pictures_and_no_shape(small: Dataset) -> None:
    other = synthetic(categories=CATEGORIES, unseen=6, instances=8, sketches=2, size=48, style_seed=1)
    for i in (0, 200):
        np.testing.assert_array_equal(reader(other).figure(i).outlines, reader(small).figure(i).outlines)
        assert np.abs(np.asarray(other.read(i), dtype=float) - np.asarray(small.read(i), dtype=float)).mean() > 3


def test_golden(small: Dataset) -> None:
    """Ten pictures as 4 x 4 grey means. Compared within 2 levels: libjpeg and the last bit of a sine may differ between machines."""
    rows = range(0, 480, 48)
    seen = np.stack([np.asarray(small.read(i).convert("L").reduce(12)).ravel() for i in rows]).astype(int)
    golden = np.array([list(bytes.fromhex(line)) for line in GOLDEN.split()])
    np.testing.assert_allclose(seen, golden, atol=2)


# splits


def test_unseen_categories_are_apart_and_siblings_stay_together(small: Dataset) -> None:
    assert small.role is not None
    found = [{ROLES[r] for r in small.role[small.category == c]} for c in range(CATEGORIES)]
    assert all(len(role) == 1 for role in found)
    assert all(found[c] == found[family(c)] for c in range(CATEGORIES))
    assert [len(small.part(role).categories) for role in ROLES] == [12, 2, 6]
    assert small.split_name == "synthetic-category-6"


@settings(max_examples=60, deadline=None)
@given(categories=st.integers(5, 60), data=st.data())
def test_every_possible_number_of_unseen_categories_is_met(categories: int, data: st.DataObject) -> None:
    unseen = data.draw(st.integers(1, categories - 4))
    role = assign_splits(categories=categories, unseen=unseen, instances=1, seed=3, disjoint="category")
    assert (role == TEST).sum() == unseen
    assert (role == VALIDATION).sum() >= 2
    assert (role == TRAIN).sum() >= 1
    assert all(role[c] == role[family(c)] for c in range(categories))


def test_no_unseen_category_stands_in_a_background(small: Dataset) -> None:
    trained = {small.category[i] for i in range(len(small)) if small.role is not None and small.role[i] == ROLES.index("train")}
    assert set(reader(small).extras) == trained


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
    for role, count in zip(ROLES, (7, 1, 2), strict=True):
        assert len(data.part(role).categories) == 5
        assert (np.bincount(data.part(role).photos.category) == count).all()
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
    ("given", "message"),
    [
        ({"categories": 4}, "categories=4 .* from 5 to"),
        ({"unseen": 50}, "unseen=50 .* from 1 to 46"),
        ({"unseen": 0}, "unseen=0"),
        ({"instances": 0}, "instances=0"),
        ({"sketches": -1}, "sketches=-1"),
        ({"size": 8}, "size=8 .* from 16"),
        ({"size": 64.0}, "size=64.0 .* a whole number"),
        ({"seed": -1}, "seed=-1"),
        ({"difficulty": 1.2}, "difficulty=1.2 .* 0 .traced. to 1"),
        ({"difficulty": float("nan")}, "difficulty=nan"),
        ({"disjoint": "categori"}, "did you mean 'category'"),
        ({"disjoint": "instance", "instances": 2}, "instances=2 leave none for training"),
    ],
)
def test_bad_arguments_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        synthetic(**given)  # type: ignore[arg-type]


# what may not tell a category


def retrieve(dataset: Dataset, feature: Callable[[Image.Image], FloatArray]) -> float:
    """mAP@all of sketches against photos by the distance of a feature, as standard scores within each modality."""
    parts = []
    for part in (dataset.sketches, dataset.photos):
        values = np.stack([feature(part.read(i)) for i in range(len(part))])
        parts.append(torch.from_numpy((values - values.mean(0)) / (values.std(0) + 1e-9)))
    sketches, photos = parts
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


GOLDEN = """
5a5a71be5b8fac695e748a5e6c5b5561
888e858c8ba594887c9193847d77ac7c
615a523f5d703e53568e5c4f587a7c4f
c2baaea2b7b39899ac98858a99917f78
ffc7d3fc9faa8cafc59e9adce772f3ff
ffadffffe59dc6ffe491c9ffff9ffaff
fffffdfccafedfb8c991ac7effd0d5f6
ffefe3ffe8d0d9fffec7ecffffd1d2ff
ffffffffff76bfffe09464cfece2bef7
bcbfffff7c71f1ff7b8ab2fcbfa6c4ff
"""
