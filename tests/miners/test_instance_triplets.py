import pytest
import torch

from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features
from sbirlib.miners.instance_triplets import InstanceTriplets


def rows(labels: list[tuple[int, int, int]]) -> tuple[Features, torch.Tensor]:
    """Rows of (modality, category, instance), and distances between them."""
    torch.manual_seed(0)
    modality, category, instance = torch.tensor(labels, dtype=torch.int64).reshape(-1, 3).T
    batch = Batch(torch.empty(len(labels), 3, 0, 0), modality, category, instance)
    features = Features.of(batch, torch.randn(len(labels), 4))
    return features, Encoder().distances(features)


def world(instances: int = 4, categories: int = 3) -> tuple[Features, torch.Tensor]:
    labels = [(m, c, c * instances + i) for c in range(categories) for i in range(instances) for m in (SKETCH, PHOTO)]
    return rows(labels)


def literal(features: Features, distances: torch.Tensor, negative: str, within: bool) -> list[tuple[int, int, int]]:
    expected = []
    label = list(zip(features.modality.tolist(), features.category.tolist(), features.instance.tolist(), strict=True))
    for a, (ma, ca, ia) in enumerate(label):
        for p, (mp, _, ip) in enumerate(label):
            if not (ma == SKETCH and mp == PHOTO and ia == ip >= 0):
                continue
            others = [n for n, (m, c, i) in enumerate(label) if m == PHOTO and i != ia and i >= 0 and (c == ca or not within)]
            if not others:
                continue
            d = {n: float(distances[a, n]) for n in others}
            farther = [n for n in others if d[n] > float(distances[a, p])]
            if negative == "hardest":
                best = min(others, key=lambda n: d[n])
            elif farther:
                best = min(farther, key=lambda n: d[n])
            else:
                best = max(others, key=lambda n: d[n])
            expected.append((a, p, best))
    return expected


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("negative", ["hardest", "semi_hard"])
def test_equals_its_definition(negative: str, within: bool) -> None:
    features, distances = world()
    triplets = InstanceTriplets(negative=negative, within_category=within)(features, distances)["instance"]  # type: ignore[arg-type]
    mined = list(zip(triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist(), strict=True))
    assert len(mined) == 12
    assert mined == literal(features, distances, negative, within)


def test_random_negatives_are_all_of_the_category_and_all_come() -> None:
    features, distances = world()
    negatives_of: dict[int, set[int]] = {}
    for _ in range(60):
        triplets = InstanceTriplets()(features, distances)["instance"]
        for a, n in zip(triplets.anchor.tolist(), triplets.negative.tolist(), strict=True):
            negatives_of.setdefault(a, set()).add(n)
    for a, negatives in negatives_of.items():
        category, instance = features.category[a], features.instance[a]
        allowed = (features.modality == PHOTO) & (features.category == category) & (features.instance != instance)
        assert negatives == set(allowed.nonzero()[:, 0].tolist())


def test_where_no_triplet_is_possible_there_is_none() -> None:
    one_photo = rows([(SKETCH, 0, 0), (PHOTO, 0, 0), (SKETCH, 1, 1), (PHOTO, 1, 1)])
    assert len(InstanceTriplets()(*one_photo)["instance"]) == 0
    assert len(InstanceTriplets(within_category=False)(*one_photo)["instance"]) == 2
    assert len(InstanceTriplets()(*rows([]))["instance"]) == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="this dataset has no instances"):
        InstanceTriplets()(*rows([(SKETCH, 0, -1), (PHOTO, 0, -1)]))
    with pytest.raises(InputError, match="negative = 'hard': expected one of 'random', 'semi_hard', 'hardest'"):
        InstanceTriplets(negative="hard")  # type: ignore[arg-type]
