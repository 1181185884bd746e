"""The index that the demonstration leaves behind."""

from pathlib import Path

from fastapi.testclient import TestClient

from sbirlib import Pipeline, build
from sbirlib.data.dataset import Dataset
from sbirlib.demo import searchable
from sbirlib.serve import app


def test_the_demonstrations_photos_can_be_served(dataset: Dataset, tmp_path: Path) -> None:
    pipeline: Pipeline = build("mathm", encoder={"backbone": "resnet10t", "dim": 8, "pretrained": False}, transform={"size": 32})
    for _ in range(2):  # a second demonstration replaces the first
        client = TestClient(app(searchable(pipeline, dataset.photos, tmp_path)))
        fields = client.get("/fields").json()["fields"]
        assert [value["count"] for value in fields["category"]["values"]] == [6] * 6
        assert client.get("/photo/35").status_code == 200
