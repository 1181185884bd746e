"""Query expansion against a literal transcription, in evaluation and in an index."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sbirlib import InputError, Pipeline, build, load, open_index
from sbirlib.data.dataset import Dataset
from sbirlib.data.split import split
from sbirlib.interfaces import Encoded
from sbirlib.phase import Expansion
from sbirlib.retrieval.expansion import in_gallery


def encoded(vectors: Tensor) -> Encoded:
    labels = torch.zeros(len(vectors), dtype=torch.int64)
    return Encoded(vectors, labels, labels, labels)


def units(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def literal(query: list[float], gallery: list[list[float]], settings: Expansion) -> list[float]:
    """The definition, in plain Python."""

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    def unit(a: list[float]) -> list[float]:
        return [x / (math.sqrt(dot(a, a)) or 1.0) for x in a]

    current = query
    for _ in range(settings.rounds):
        order = sorted(gallery, key=lambda photo: -dot(current, photo))[: settings.photos]
        weights = [max(dot(current, photo), 0.0) ** settings.power if dot(current, photo) > 0 or settings.power else 1.0 for photo in order]
        mean = unit([sum(w * photo[v] for w, photo in zip(weights, order, strict=True)) for v in range(len(query))])
        current = unit([q + settings.weight * m for q, m in zip(query, mean, strict=True)])
    return current


@pytest.mark.parametrize(
    "settings",
    [Expansion(), Expansion(photos=1, rounds=1), Expansion(photos=40, power=0.0), Expansion(photos=7, power=1.5, weight=0.5, rounds=2)],
)
def test_expanded_queries_are_those_of_the_definition(settings: Expansion) -> None:
    queries, gallery = units(50, 1, 6), units(30, 6, seed=1)
    vectors = in_gallery(encoded(queries), encoded(gallery), settings).vectors
    expected = [literal(query[0].double().tolist(), gallery.double().tolist(), settings) for query in queries]
    assert vectors.shape == queries.shape
    assert torch.allclose(vectors[:, 0].double(), torch.tensor(expected, dtype=torch.float64), atol=1e-5)


def test_a_query_far_from_every_photo_stays_and_none_of_the_settings_changes_nothing() -> None:
    queries, gallery = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[0.0, -1.0], [0.6, -0.8]])
    assert torch.equal(in_gallery(encoded(queries), encoded(gallery), Expansion()).vectors, queries)
    assert in_gallery(encoded(queries), encoded(gallery), None).vectors is queries
    assert in_gallery(encoded(queries), encoded(gallery)[:0], Expansion()).vectors is queries


@pytest.mark.parametrize(
    ("queries", "gallery", "fault"),
    [
        (units(2, 1, 4) * 2, units(5, 4), "a query has another length"),
        (units(2, 3, 4), units(5, 4), "a query has 3 vectors"),
        (units(2, 1, 5), units(5, 4), "a query has 5 numbers, a photo 4"),
        (units(2, 1, 4), units(5, 4) * 2, "a photo has another length"),
    ],
)
def test_vectors_of_two_spaces_are_refused(queries: Tensor, gallery: Tensor, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        in_gallery(encoded(queries), encoded(gallery), Expansion())


def test_photos_that_are_alike_are_found_together() -> None:
    """Two clusters of photos; queries lie between them, nearer to the first photo of their own."""
    centres, noise = units(2, 64), units(40, 64, seed=1)
    gallery = F.normalize(centres.repeat_interleave(20, 0) + noise, dim=1)
    queries = F.normalize(centres + 1.5 * units(2, 64, seed=2), dim=1)[:, None]
    relevant = torch.arange(2).repeat_interleave(20)
    before, after = (
        [(q[0] @ gallery.T)[relevant == c].mean() - (q[0] @ gallery.T)[relevant != c].mean() for c, q in enumerate(vectors)]
        for vectors in (queries, in_gallery(encoded(queries), encoded(gallery), Expansion()).vectors)
    )
    assert all(b < a for b, a in zip(before, after, strict=True))


@pytest.fixture
def small_folder(dataset: Dataset) -> Dataset:
    """Figures of six categories, two of them unseen."""
    return split(dataset, ["class4", "class5"])


def small(**changes: Any) -> Pipeline:
    encoder: dict[str, Any] = {
        "backbone": "resnet10t",
        "dim": 8,
        "pretrained": False,
        "timm_options": {"stem_type": "", "channels": [4, 4, 4, 4]},
    }
    return build("mathm-ce", encoder={"name": "backbone", **encoder}, transform={"size": 32}, **changes)


def test_a_recipe_expands_in_evaluation_and_in_every_search_of_its_index(small_folder: Dataset, tmp_path: Path) -> None:
    plain, expanding = small(), small(expansion={"photos": 3, "rounds": 2})
    assert "expansion" not in plain.recipe.tables()
    assert expanding.recipe.expansion == Expansion(photos=3, rounds=2)
    queries, gallery = plain.encode(small_folder, split="test", progress=False)
    expansion, _ = expanding.encode(small_folder, split="test", progress=False)
    assert torch.equal(expansion.vectors, in_gallery(queries, gallery, expanding.recipe.expansion).vectors)
    assert not torch.allclose(expansion.vectors, queries.vectors)

    index = expanding.index(small_folder.test, progress=False)
    hits = index.search_all(small_folder.test.sketches, k=4)
    scores = (expansion.vectors[:, 0] @ gallery.vectors.T).topk(4, dim=1).values
    assert torch.allclose(torch.tensor([[hit.score for hit in row] for row in hits]), scores, atol=1e-5)

    index.save(tmp_path / "index")
    again = open_index(tmp_path / "index")
    assert again.expansion == expanding.recipe.expansion
    assert again.search_all(small_folder.test.sketches, k=4) == hits
    assert index.digest == plain.encoder_digest(), "the vectors are those of the plain recipe"
    expanding.export(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").recipe.expansion == expanding.recipe.expansion


def test_photos_outside_a_filter_do_not_move_a_query(small_folder: Dataset) -> None:
    index = small(expansion={}).index(small_folder.test, progress=False)
    category = small_folder.test.categories[0]
    alone = small(expansion={}).index(small_folder.test.subset(small_folder.test.category == 0), progress=False)
    sketches = small_folder.test.sketches
    filtered = [[hit.score for hit in row] for row in index.search_all(sketches, k=3, where={"category": category})]
    assert filtered == [[pytest.approx(hit.score, abs=1e-5) for hit in row] for row in alone.search_all(sketches, k=3)]


def test_an_encoder_of_two_spaces_is_refused_before_it_trains(small_folder: Dataset) -> None:
    backbone = {"name": "backbone", "backbone": "test_resnet", "dim": 8, "pretrained": False}
    vtd = build(
        "vtd",
        encoder={"encoder": backbone, "descriptor": {"channels": 4, "rows": 8}},
        transform={"size": 32},
        sampler={"pairs": 4},
        expansion={},
    )
    with pytest.raises(InputError, match="both must be unit vectors of one space, and a query has 160 vectors: leave expansion out"):
        vtd.fit(small_folder, progress=False, tensorboard=False)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"photos": 0}, "expansion.photos = 0"),
        ({"power": -1}, "expansion.power = -1"),
        ({"weight": 0}, "expansion.weight = 0"),
        ({"round": 2}, "rounds"),
        (3, "expansion = 3"),
    ],
)
def test_wrong_values_are_refused_by_name(value: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        small(expansion=value)
