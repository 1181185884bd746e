"""The full evaluation of a pipeline."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sbirlib import build, split
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.evaluation import evaluation, worst_queries
from sbirlib.interfaces import Batch, Encoder, Wrapper
from sbirlib.retrieval.encode import encode
from sbirlib.retrieval.exact.metrics import METRICS


def test_everything_is_measured_with_intervals_and_classes(dataset: Dataset, tmp_path: Path) -> None:
    parts = split(dataset, ["class4", "class5"])
    pipeline = build(
        encoder={"name": "backbone", "backbone": "resnet10t", "dim": 8, "pretrained": False},
        losses=["cross_entropy"],
        transform={"size": 32},
        evaluators={"category": {"metrics": ["mAP@all", "Prec@5"]}, "instance": {"metrics": ["Acc@1"]}},
    )
    result = evaluation(pipeline, parts, progress=False)
    plain = pipeline.evaluate(parts, progress=False)
    assert {line.metric: line.value for line in result.lines} == plain == result.tables()["metrics"]
    for line in result.lines:
        assert line.interval is not None
        assert line.interval[0] <= line.value <= line.interval[1]
        definition = METRICS[line.metric.removeprefix("class_").replace("5", "k").replace("1", "k")].definition
        over_classes = "mean over classes of the mean over their queries: "
        assert line.definition == (over_classes if line.metric.startswith("class_") else "") + definition
    of_classes = result.classes["category"]
    assert set(of_classes) == {"class4", "class5"}
    assert sum(means["mAP@all"] for means in of_classes.values()) / 2 == pytest.approx(plain["mAP@all"])  # as many queries in each
    assert plain["class_mAP@all"] == pytest.approx(plain["mAP@all"])
    assert worst_queries(result, parts, rows=3, k=4).width > 100
    lines = evaluation(pipeline, parts, metrics=["mAP@3:voc"], progress=False).lines
    assert [line.metric for line in lines] == ["mAP@3:voc", "class_mAP@3:voc"]
    with pytest.raises(InputError, match="there is no metric"):
        evaluation(pipeline, parts, metrics=["map"], progress=False)


class Draws(Wrapper):
    """Three vectors a query: its own, and its own with noise, as a query-conditioned encoder draws them."""

    def query_vectors(self, batch: Batch) -> Tensor:
        own = self.encoder.query_vectors(batch)
        noise = torch.randn(2, own.shape[-1], generator=torch.Generator().manual_seed(0)).to(own.device)
        return torch.cat([own, torch.nn.functional.normalize(own + noise, dim=-1)], 1)


def test_a_query_of_several_vectors_counts_by_its_largest_product(dataset: Dataset, encoder: Encoder, tmp_path: Path) -> None:
    parts = split(dataset, ["class4", "class5"])
    pipeline = build(
        encoder=Draws(encoder),
        losses=["cross_entropy"],
        transform={"size": 32},
        evaluators={"category": {"metrics": ["mAP@all"]}, "instance": {"metrics": ["Acc@1"]}},
    )
    queries = encode(pipeline.encoder, parts.test.sketches, pipeline.transform, side="query")
    gallery = encode(pipeline.encoder, parts.test.photos, pipeline.transform, side="gallery")
    assert queries.vectors.shape == (12, 3, 8)
    scores = torch.einsum("qsv,gv->qsg", queries.vectors, gallery.vectors).amax(1)
    order = scores.argsort(dim=1, descending=True)
    right = (gallery.category[order] == queries.category[:, None]).double()
    precision = right.cumsum(1) / torch.arange(1, 13)
    mean = ((precision * right).sum(1) / right.sum(1)).mean()
    first = (gallery.instance[order[:, 0]] == queries.instance).double().mean()
    result = pipeline.evaluate(parts, progress=False)
    assert result["mAP@all"] == pytest.approx(float(mean), abs=1e-9)
    assert result["Acc@1"] == pytest.approx(float(first), abs=1e-9)
    for kind in ("flat", {"name": "itq", "bits": 8}):
        index = pipeline.index(parts.test, kind=kind, progress=False)
        hits = index.search_all([parts.test.sketches.read(i) for i in range(12)], k=12)
        best_scores = torch.tensor([[hit.score for hit in result] for result in hits])
        assert torch.allclose(best_scores, scores.sort(descending=True).values, atol=1e-5)
