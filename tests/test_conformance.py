"""Conformance of the core's components, and of those adapted from pytorch-metric-learning."""

from collections.abc import Callable, Sequence

import pytest

from sbirlib.interfaces import Encoded
from sbirlib.losses import pml as losses
from sbirlib.miners.pml import TRIPLET_MINERS
from sbirlib.testing import all_checks, check_part

Check = Callable[[], None]
OPTIONS = {"RankedListLoss": {"margin": 0.4, "Tn": 1}}
VIT = {"name": "backbone", "backbone": "vit_tiny_patch16_224", "pretrained": False, "dim": 16, "timm_options": {"img_size": 64}}
BY_DESIGN = {
    "CircleLoss/gradient_is_right": "its weights are held constant (Sun et al. 2020, section 3.2)",
    "NPairsLoss/ignores_the_order_of_rows": "it takes one pair of each category, the first",
    "TripletMarginMiner/takes_memory_of_order_n_squared": "it chooses among all triplets",
    "AngularMiner/takes_memory_of_order_n_squared": "it chooses among all triplets",
}


def ranked(query: Encoded, gallery: Encoded) -> list[int]:
    scores = [max(float(vector @ photo) for vector in query.vectors[0]) for photo in gallery.vectors]
    return sorted(range(len(scores)), key=lambda i: -scores[i])


def averages(name: str, values: Sequence[float], category: list[int]) -> dict[str, float]:
    """The mean over queries, and the mean over classes."""
    classes = [[value for value, c in zip(values, category, strict=True) if c == own] for own in set(category)]
    return {name: sum(values) / len(values), f"class_{name}": sum(sum(own) / len(own) for own in classes) / len(classes)}


def by_category(queries: Encoded, gallery: Encoded) -> dict[str, float]:
    average, precision = [], []
    category = queries.category.tolist()
    for q in range(len(queries)):
        hits = [bool(gallery.category[i] == queries.category[q]) for i in ranked(queries[q : q + 1], gallery)]
        precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
        average.append(sum(precisions) / len(precisions))
        precision.append(sum(hits[:100]) / 100)
    return averages("mAP@all", average, category) | averages("Prec@100", precision, category)


def by_instance(queries: Encoded, gallery: Encoded) -> dict[str, float]:
    places, category = [], []
    for q in range(len(queries)):
        own = [bool(gallery.instance[i] == queries.instance[q]) for i in ranked(queries[q : q + 1], gallery)]
        if any(own):
            places.append(own.index(True))
            category.append(int(queries.category[q]))
    return {name: mean for k in (1, 5, 10) for name, mean in averages(f"Acc@{k}", [place < k for place in places], category).items()}


@pytest.mark.parametrize(
    ("name", "check"),
    all_checks(
        "sbirlib",
        options={"index/milvus": {"uri": "photos.db"}, "encoder/prompt": {"encoder": VIT}},
        oracles={"evaluator/category": by_category, "evaluator/instance": by_instance},
        expected_failures={"encoder/taught/state_is_whole": "its teacher never trains, and is made anew from the recipe"},
    ),
)
def test_conforms(name: str, check: Check) -> None:
    check()


@pytest.mark.parametrize("name", losses.adaptable())
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # PML's
def test_losses_of_pytorch_metric_learning_conform(name: str) -> None:
    check_part("loss", f"pml:{name}", options=OPTIONS.get(name), expected_failures=expected("loss", name))


@pytest.mark.parametrize("name", TRIPLET_MINERS)
def test_miners_of_pytorch_metric_learning_conform(name: str) -> None:
    check_part("miner", f"pml:{name}", expected_failures=expected("miner", name))


def expected(kind: str, name: str) -> dict[str, str]:
    return {f"{kind}/pml:{check}": why for check, why in BY_DESIGN.items() if check.startswith(f"{name}/")}
