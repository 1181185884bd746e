"""Shapes of the synthetic dataset: outlines, categories and instances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbirlib.data.synthetic.categories import MOST_OUTLINES, TOO_NEAR, family, grammars, silhouette, typical
from sbirlib.data.synthetic.grammar import Grammar, Primitive, figure
from sbirlib.data.synthetic.outline import POINTS, FloatArray, outline
from sbirlib.data.synthetic.renderer import instance_values

CATEGORIES = 20


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


def test_more_categories_leave_the_first_as_they_are(kinds: tuple[Grammar, ...]) -> None:
    assert grammars(0, 9) == kinds[:9]


def test_another_seed_makes_other_categories(kinds: tuple[Grammar, ...]) -> None:
    assert all(one != other for one, other in zip(grammars(1, 9), kinds, strict=False))


def test_a_category_has_two_to_six_primitives_and_eight_to_twenty_values(kinds: tuple[Grammar, ...]) -> None:
    for grammar in kinds:
        assert 2 <= len(grammar.primitives) - 1 <= 6
        assert 8 <= grammar.values <= 20
        assert 1 <= grammar.joint < len(grammar.primitives)


def test_three_of_ten_categories_are_siblings_that_differ_by_one_primitive(kinds: tuple[Grammar, ...]) -> None:
    siblings = [c for c in range(CATEGORIES) if family(c) != c]
    assert len(siblings) == 0.3 * CATEGORIES
    for c in siblings:
        one, other = kinds[c], kinds[family(c)]
        assert sum(a != b for a, b in zip(one.primitives, other.primitives, strict=True)) == 1


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
    shape = figure(grammar, np.random.default_rng(seed).uniform(-1, 1, grammar.values))
    points = shape.outlines.reshape(-1, 2)
    assert np.isfinite(points).all()
    assert shape.extent.max() == pytest.approx(1)
    np.testing.assert_allclose(points.max(0) + points.min(0), 0, atol=1e-9)


def test_a_mirrored_primitive_makes_an_upright_figure_symmetric() -> None:
    primitives = (Primitive("ellipse", (), 0.7), Primitive("limb", (0.5,), 0.3, bend=0.6, at=0.2, angle=0.4, size=0.8, mirror=True))
    shape = figure(Grammar(primitives, joint=1, upright=True), np.array([0.3, -0.8, 0.5, -0.2, 0.7]))
    assert len(shape.outlines) == 3
    np.testing.assert_allclose(np.sort(shape.outlines[..., 0].ravel()), -np.sort(shape.outlines[..., 0].ravel())[::-1], atol=1e-9)


def test_copies_radiate_and_a_hole_follows_its_outline() -> None:
    primitives = (Primitive("ellipse", (), 1.0, hole=0.5), Primitive("limb", (0.0,), 0.2, copies=4, size=0.5, behind=True))
    shape = figure(Grammar(primitives, joint=1, upright=False), np.zeros(5))
    assert shape.primitive.tolist() == [1, 1, 1, 1, 0, 0]
    assert shape.hole.tolist() == [False] * 5 + [True]
    np.testing.assert_allclose(shape.outlines[:4].mean(1).mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(shape.outlines[5], axis=0), 0.5 * np.ptp(shape.outlines[4], axis=0))


@pytest.mark.parametrize("c", [0, 7])
def test_instances_spread_evenly_over_their_values(c: int) -> None:
    values = instance_values(0, c, 11, 64)
    assert values.shape == (64, 11)
    assert np.abs(values).max() <= 1
    assert np.abs(values.mean(0)).max() < 0.05
    np.testing.assert_array_equal(instance_values(0, c, 11, 20), values[:20])
