import inspect
from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning import miners

from sbirlib.distance import euclidean
from sbirlib.errors import InputError
from sbirlib.interfaces import Features
from sbirlib.miners.batch_hard import BatchHard
from sbirlib.miners.pml import REFUSED, TRIPLET_MINERS, adapt

MakeFeatures = Callable[..., Features]
CATEGORY = [i % 4 for i in range(24)]


@pytest.mark.parametrize("name", [n for n in TRIPLET_MINERS if n != "BatchEasyHardMiner"])
def test_equals_pml(make_features: MakeFeatures, name: str) -> None:
    torch.manual_seed(0)
    features = make_features(torch.randn(24, 6, dtype=torch.float64), CATEGORY)
    torch.manual_seed(1)
    triplets = adapt(name)()(features, euclidean(features.vector))["pml"]
    torch.manual_seed(1)
    expected = getattr(miners, name)()(features.vector, features.category)
    assert len(triplets) > 0
    for ours, theirs in zip((triplets.anchor, triplets.positive, triplets.negative), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("positive", "negative"), [("easy", "semihard"), ("hard", "hard"), ("all", "hard")])
def test_easy_hard_gives_triplets_whatever_its_strategies(make_features: MakeFeatures, positive: str, negative: str) -> None:
    features = make_features(torch.randn(24, 6), CATEGORY)
    triplets = adapt("BatchEasyHardMiner")(pos_strategy=positive, neg_strategy=negative)(features, euclidean(features.vector))["pml"]
    assert len(triplets) > 0
    assert (features.category[triplets.anchor] == features.category[triplets.positive]).all()
    assert (features.category[triplets.anchor] != features.category[triplets.negative]).all()
    assert (triplets.anchor != triplets.positive).all()


def test_reads_the_encoders_distances(make_features: MakeFeatures) -> None:
    features = make_features(torch.zeros(24, 6), CATEGORY)
    distances = torch.rand(24, 24)
    triplets, expected = adapt("BatchHardMiner")()(features, distances)["pml"], BatchHard()(features, distances)["hard"]
    assert triplets.positive.tolist() == expected.positive.tolist()
    assert triplets.negative.tolist() == expected.negative.tolist()


def test_leaves_the_distances_as_they_were(make_features: MakeFeatures) -> None:
    features = make_features(torch.randn(24, 6), CATEGORY)
    distances = euclidean(features.vector)
    before = distances.clone()
    for name in TRIPLET_MINERS:
        adapt(name)()(features, distances)
    assert torch.equal(distances, before)


@pytest.mark.parametrize("name", TRIPLET_MINERS)
@pytest.mark.parametrize("category", [[0, 0, 0], [0, 1, 2]], ids=["one class", "no positive"])
def test_nothing_possible_gives_no_triplets(make_features: MakeFeatures, name: str, category: list[int]) -> None:
    features = make_features(torch.randn(3, 6), category)
    assert len(adapt(name)()(features, euclidean(features.vector))["pml"]) == 0


def test_the_signature_holds_the_miners_options() -> None:
    options = inspect.signature(adapt("TripletMarginMiner")).parameters
    assert {name: option.default for name, option in options.items()} == {"margin": 0.2, "type_of_triplets": "all"}
    assert all(option.kind is option.KEYWORD_ONLY for option in options.values())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_mines_no_triplets_is_refused_by_name(name: str) -> None:
    assert hasattr(miners, name)
    with pytest.raises(InputError, match=f"pml:{name} cannot be used here: "):
        adapt(name)


def test_a_pair_miner_says_where_it_goes() -> None:
    with pytest.raises(InputError, match="as that loss's option miner='MultiSimilarityMiner'"):
        adapt("MultiSimilarityMiner")


def test_an_unknown_miner_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="no triplet miner 'TripletMiner'; did you mean 'TripletMarginMiner'"):
        adapt("TripletMiner")


def test_an_unknown_option_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="pml:TripletMarginMiner has no option 'margn'; did you mean 'margin'"):
        adapt("TripletMarginMiner")(margn=0.1)
