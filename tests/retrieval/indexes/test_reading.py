"""Records, fields, counts and vectors of an index of every kind; an index in Milvus served to many."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from tests.conftest import figure
from tests.retrieval.indexes.photos import described, filled, random
from tests.retrieval.indexes.test_indexes import KINDS

from sbirlib import build, open_index
from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.base import Index, read_index
from sbirlib.retrieval.indexes.milvus import Milvus
from sbirlib.serve import app

DRAWING = {"strokes": [{"points": [[0.2, 0.2], [0.8, 0.8]]}]}


@pytest.fixture(params=[*KINDS, "milvus"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Index]:
    if request.param == "milvus":
        pytest.importorskip("pymilvus", reason="the extra `milvus` is not installed")
        return lambda: Milvus(uri=str(tmp_path / "photos.db"), index_type="FLAT")
    return KINDS[request.param]


def test_what_an_index_holds_can_be_read(empty: Callable[[], Index], tmp_path: Path) -> None:
    gallery = random(300, 16)
    index = filled(filled(empty(), gallery[:200]), gallery[200:])
    index.remove(["3.jpg", "299.jpg"])
    index.save(tmp_path / "saved")
    rest = [record for record in described(300) if record["path"] not in ("3.jpg", "299.jpg")]
    for each in (index, read_index(tmp_path / "saved")):
        assert list(each.all_records()) == rest
        assert each.paths() == [record["path"] for record in rest]
        assert each.count() == 298
        assert each.count({"category": "c1"}) == sum(record["category"] == "c1" for record in rest)
        assert each.count({"category": ["c1", "c2"], "year": 2003}) == sum(r["category"] != "c0" and r["year"] == 2003 for r in rest)
        assert each.count({"year": 1999}) == 0
        fields = each.fields()
        assert fields.keys() == {"category", "year"}
        assert fields["category"] == {c: sum(record["category"] == c for record in rest) for c in ("c0", "c1", "c2")}
        assert each.fields(most=3).keys() == {"category"}
        assert torch.allclose(each.vectors(["298.jpg", "0.jpg", "298.jpg"]), gallery[[298, 0, 298]])
        with pytest.raises(InputError, match="'3.jpg' is not in the index"):
            each.vectors(["0.jpg", "3.jpg"])
        with pytest.raises(InputError, match="no photo of this index has the id"):
            each.records(torch.tensor([2**40]))


@pytest.fixture(params=["a file", pytest.param("a server", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    pytest.importorskip("pymilvus", reason="the extra `milvus` is not installed")
    return str(tmp_path / "photos.db") if request.param == "a file" else str(request.getfixturevalue("milvus_server").uri)


def test_an_index_in_milvus_is_served_and_what_is_added_is_there_at_once(uri: str, tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "photos" / f"class{i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure(i % 6, i, False).save(path)
    pipeline = build("mathm", encoder={"backbone": "resnet10t", "dim": 8, "pretrained": False}, transform={"size": 32})
    kind = {"name": "milvus", "uri": uri, "collection": f"photos_{secrets.token_hex(4)}", "index_type": "FLAT"}
    index = pipeline.index(tmp_path / "photos", kind=kind, progress=False)
    index.save(tmp_path / "index")
    flat = pipeline.index(tmp_path / "photos", progress=False)
    served = index if uri.endswith(".db") else open_index(tmp_path / "index")  # a file is open in one place alone
    with TestClient(app(served, cache=tmp_path / "cache")) as client, TestClient(app(flat)) as beside:

        def search(where: dict[str, list[str]]) -> list[str]:
            answers = [c.post("/search", json={"drawing": DRAWING, "k": 12, "where": where}).json() for c in (client, beside)]
            assert [(hit["name"], round(hit["score"], 4)) for hit in answers[0]["hits"]] == [
                (hit["name"], round(hit["score"], 4)) for hit in answers[1]["hits"]
            ]
            return [hit["id"] for hit in answers[0]["hits"]]

        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(search, [{}, {"category": ["class1"]}] * 8))
        assert {len(each) for each in ids} == {12, 4}
        assert uri.endswith(".db") or int(ids[0][0]) > 2**53, "a server's ids are more than a script holds as a number"
        assert client.get(f"/photo/{ids[0][0]}").status_code == 200
        assert client.post(f"/similar/{ids[0][0]}", json={}).json()["hits"][0]["id"] == ids[0][0]
        assert client.get("/fields").json() == beside.get("/fields").json()
        figure(0, 50, False).save(tmp_path / "new.png")
        index.add([tmp_path / "new.png"], progress=False)
        assert client.get("/health").json()["photos"] == 13
        assert len(client.post("/search", json={"drawing": DRAWING}).json()["hits"]) == 13
        assert client.get("/photo/99").status_code == 404
