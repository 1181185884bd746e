from collections.abc import Callable

import torch

from sbirlib.interfaces import Features
from sbirlib.miners.random import Random

MakeFeatures = Callable[..., Features]


def test_draws_every_pair_about_as_often(make_features: MakeFeatures) -> None:
    torch.manual_seed(0)
    features = make_features(torch.randn(6, 3), [0, 0, 0, 1, 1, 2])
    positives, negatives = torch.zeros(6, 6), torch.zeros(6, 6)
    for _ in range(200):
        triplets = Random()(features, torch.zeros(6, 6))["random"]
        assert triplets.anchor.tolist() == [0, 1, 2, 3, 4]
        positives[triplets.anchor, triplets.positive] += 1
        negatives[triplets.anchor, triplets.negative] += 1
    same = features.category[:, None] == features.category
    assert not positives.diagonal().any()
    assert not positives[~same].any()
    assert not negatives[same].any()
    assert (positives[0, 1:3] > 70).all()
    assert (negatives[0, 3:] > 40).all()


def test_follows_the_global_generator(make_features: MakeFeatures) -> None:
    features = make_features(torch.randn(40, 3), [i % 4 for i in range(40)])
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(Random()(features, torch.zeros(40, 40))["random"].negative.tolist())
    assert draws[0] == draws[1] != draws[2]


def test_leaves_out_views_of_one_image_when_told(make_features: MakeFeatures) -> None:
    features = make_features(torch.randn(3, 3), [0, 0, 1], source=[0, 0, 1])
    assert len(Random(same_source=False)(features, torch.zeros(3, 3))["random"]) == 0
    assert len(Random()(features, torch.zeros(3, 3))["random"]) == 2


def test_no_rows(make_features: MakeFeatures) -> None:
    assert len(Random()(make_features(torch.empty(0, 3), []), torch.empty(0, 0))["random"]) == 0
