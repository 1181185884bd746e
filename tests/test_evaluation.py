"""A model measured in full."""

from pathlib import Path

import pytest

from sbirlib import build, split
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.evaluation import evaluation, worst_queries
from sbirlib.retrieval.metrics import DEFINITIONS, METRICS


def test_every_metric_has_a_definition() -> None:
    assert DEFINITIONS.keys() == METRICS.keys()


def test_everything_is_measured_with_intervals_and_classes(dataset: Dataset, tmp_path: Path) -> None:
    parts = split(dataset, ["class4", "class5"])
    pipeline = build(
        encoder={"name": "backbone", "backbone": "resnet10t", "dim": 8, "pretrained": False},
        losses=["cross_entropy"],
        transform={"size": 32},
        evaluators={"category": {"metrics": ["mAP@all", "Prec@5"]}, "instance": {"metrics": ["Acc@1"]}},
    )
    found = evaluation(pipeline, parts, progress=False)
    plain = pipeline.evaluate(parts, progress=False)
    assert {line.metric: line.value for line in found.lines} == plain == found.tables()["metrics"]
    for line in found.lines:
        assert line.interval is not None
        assert line.interval[0] <= line.value <= line.interval[1]
        assert line.definition == DEFINITIONS[line.metric.replace("5", "k").replace("1", "k")]
    of_classes = found.classes["category"]
    assert set(of_classes) == {"class4", "class5"}
    assert sum(means["mAP@all"] for means in of_classes.values()) / 2 == pytest.approx(plain["mAP@all"])  # as many queries in each
    assert worst_queries(found, parts, rows=3, k=4).width > 100
    assert [line.metric for line in evaluation(pipeline, parts, metrics=["mAP@3:voc"], progress=False).lines] == ["mAP@3:voc"]
    with pytest.raises(InputError, match="there is no metric"):
        evaluation(pipeline, parts, metrics=["map"], progress=False)
