"""An index in Milvus keeps the promises of every index: in a file by milvus-lite, and in a real server."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.retrieval.indexes.photos import described, filled, random
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes import milvus
from sbirlib.retrieval.indexes.base import Index, Where, read_index
from sbirlib.retrieval.indexes.milvus import Milvus
from sbirlib.retrieval.indexes.shards import Record

pytest.importorskip("pymilvus", reason="the extra `milvus` is not installed")
GROW = Path(__file__).parent / "milvus_grow.py"
BATCH = 40  # photos that it adds at a time


@pytest.fixture(params=["a file", pytest.param("a server", marks=pytest.mark.slow)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Milvus]:
    """Makes indexes of one new collection."""
    uri = str(tmp_path / "photos.db") if request.param == "a file" else request.getfixturevalue("milvus_server").uri
    name = f"photos_{secrets.token_hex(4)}"
    return lambda **options: Milvus(**{"uri": uri, "collection": name, "index_type": "FLAT", **options})


def batch(number: int) -> Tensor:
    """Vectors that milvus_grow.py adds in its nth turn."""
    return random(BATCH, 8, seed=number)


def found(index: Index, queries: Tensor, k: int, where: Where | None = None) -> list[list[str]]:
    ids = index.search(queries, k, where)[1]
    paths = [str(record["path"]) for record in index.records(ids.flatten())]
    return [paths[i : i + ids.shape[1]] for i in range(0, len(paths), ids.shape[1])]


def best(queries: Tensor, gallery: Tensor, k: int, rows: list[int]) -> list[list[str]]:
    order = (queries @ gallery[rows].T).amax(1).argsort(dim=1, descending=True, stable=True)[:, :k]
    return [[f"{rows[i]}.jpg" for i in row] for row in order.tolist()]


@pytest.mark.parametrize("index_type", ["FLAT", "HNSW"])
def test_photos_are_found_filtered_removed_and_added(
    make: Callable[..., Milvus], index_type: milvus.IndexType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "MESSAGE", 4 * 16 * 150)  # so that vectors go in several messages
    gallery, queries = random(400, 16), random(10, 3, 16, seed=1)
    index = filled(filled(make(index_type=index_type, replace=True), gallery[:250]), gallery[250:])
    assert len(index) == 400
    assert index.dim == 16
    assert index.paths() == [f"{i}.jpg" for i in range(400)]
    assert found(index, queries, 5) == best(queries, gallery, 5, list(range(400)))
    some = [i for i in range(400) if i % 3 != 2 and i % 7 == 1]
    where: Where = {"category": ["c0", "c1", "owl"], "year": 2001.0}
    assert found(index, queries, 5, where) == best(queries, gallery, 5, some)
    scores, ids = index.search(queries, 500, where)
    assert ids.shape == (10, len(some))
    assert torch.allclose(scores, (queries @ gallery[some].T).amax(1).sort(descending=True).values, atol=1e-5)
    index.remove(["7.jpg", "0.jpg"])
    left = [i for i in range(400) if i not in (0, 7)]
    assert len(index) == 398
    assert found(index, queries, 5) == best(queries, gallery, 5, left)
    index.save(tmp_path / "index")
    opened = read_index(tmp_path / "index")
    assert isinstance(opened, Milvus)
    assert (opened.index_type, opened.index_params, opened.search_params) == (index_type, *milvus.INDEX_TYPES[index_type])
    assert found(opened, queries, 5) == best(queries, gallery, 5, left)
    opened.add(queries[:1, 0], [{"path": "0.jpg", "album": None, "fine": True, "size": 1.5}])  # a removed path may come back
    assert opened.paths()[-1] == "0.jpg"
    assert found(opened, queries[:, :1], 1, {"album": None}) == [["0.jpg"]] * 10
    assert found(opened, queries[:, :1], 1, {"fine": 1, "size": 1.5}) == [["0.jpg"]] * 10
    assert opened.search(queries, 5, {"category": "owl"})[1].shape == (10, 0)
    assert opened.search(queries, 5, {"category": []})[1].shape == (10, 0)
    assert len(index) == 399  # a photo that was added is there for all at once, saved or not


def test_equal_scores_come_in_the_order_of_adding(make: Callable[..., Milvus]) -> None:
    index = filled(make(), torch.ones(50, 4))
    assert found(index, torch.ones(2, 4), 50) == [[f"{i}.jpg" for i in range(50)]] * 2


def test_bad_input_is_refused_and_changes_nothing(make: Callable[..., Milvus], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the index is empty: add photos before searching"):
        make().search(torch.ones(1, 16), 1)
    with pytest.raises(InputError, match="the index is empty"):
        make().save(tmp_path / "index")
    index = filled(make(), random(30, 16))
    for queries, k, message in [
        (torch.ones(1, 16), 0, "at least 1, got 0"),
        (torch.ones(1, 16), 20_000, "at most 16384 photos for a query"),
        (torch.ones(1, 5), 1, "holds vectors of 16 numbers, got 5"),
        (torch.full((1, 16), torch.nan), 1, "NaN or infinity"),
    ]:
        with pytest.raises(InputError, match=message):
            index.search(queries, k)
    with pytest.raises(InputError, match="no photo here has a field 'categry'; did you mean 'category'"):
        index.search(torch.ones(1, 16), 1, {"categry": "c0"})
    refused: list[tuple[Tensor, list[Record], str]] = [
        (torch.ones(2, 5), described(2, 900), "holds vectors of 16 numbers"),
        (torch.ones(2, 16), described(2, 29), "'29.jpg' is in the index already"),
        (torch.ones(1, 16), [{"path": "x.jpg", "text": "long" * 20_000}], "at most 65536 of each photo"),
    ]
    for vectors, records, message in refused:
        with pytest.raises(InputError, match=message):
            index.add(vectors, records)
    with pytest.raises(InputError, match=r"'x.jpg' is not in the index"):
        index.remove(["0.jpg", "x.jpg"])
    assert len(index) == 30
    with pytest.raises(InputError, match="has a collection 'photos_.*' already"):
        filled(make(), random(2, 16))
    index.save(tmp_path / "index")
    assert len(filled(make(replace=True), random(2, 8))) == 2
    index.client.drop_collection(index.collection)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="has no collection 'photos_.*' any more"):
        read_index(tmp_path / "index")


def test_what_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a file that ends with \.db, or the address of a server"):
        Milvus(uri="photos")
    with pytest.raises(InputError, match="Milvus: index_type = 'PQ': expected one of 'AUTOINDEX', 'FLAT'"):
        Milvus(uri="photos.db", index_type="PQ")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no Milvus can be opened at http://127.0.0.1:9"):
        filled(Milvus(uri="http://127.0.0.1:9"), torch.ones(1, 2))
    filled(Milvus(uri=str(tmp_path / "photos.db")), torch.ones(1, 2)).save(tmp_path / "index")
    (tmp_path / "photos.db").rename(tmp_path / "moved.db")
    with pytest.raises(InputError, match=r"photos\.db, which is gone"):
        read_index(tmp_path / "index")


def test_a_killed_process_loses_no_acknowledged_photo(make: Callable[..., Milvus], tmp_path: Path) -> None:
    acknowledged = killed(make(), tmp_path / "index")
    every_photo(read_index(tmp_path / "index"), acknowledged)


@pytest.mark.slow
def test_a_killed_server_loses_no_acknowledged_photo(milvus_server: Any, tmp_path: Path) -> None:
    index = Milvus(uri=milvus_server.uri, collection=f"photos_{secrets.token_hex(4)}", index_type="FLAT")
    acknowledged = killed(index, tmp_path / "index", kill=milvus_server.kill)
    milvus_server.start()
    every_photo(read_index(tmp_path / "index"), acknowledged)


def killed(index: Milvus, folder: Path, *, kill: Callable[[], None] | None = None) -> int:
    """How many photos were acknowledged to a process that adds, which was killed while it added, or whose server was."""
    command = [sys.executable, str(GROW), index.uri, index.collection, str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    numbers = [child.stdout.readline() for _ in range(4)]
    (kill or child.kill)()
    child.kill()
    numbers += child.stdout.readlines()
    child.wait()
    return BATCH * len(numbers)


def every_photo(opened: Index, acknowledged: int) -> None:
    """Every acknowledged photo is there, whole; of the batch after it perhaps some."""
    assert acknowledged <= len(opened) <= acknowledged + BATCH
    assert opened.paths()[:acknowledged] == [f"{i}.jpg" for i in range(acknowledged)]
    gallery = torch.cat([batch(i) for i in range(acknowledged // BATCH + 1)])[: len(opened)]
    queries = random(5, 1, 8, seed=99)
    assert found(opened, queries, 3) == best(queries, gallery, 3, list(range(len(opened))))
    opened.add(random(1, 8, seed=7), [{"path": "after.jpg"}])
    assert opened.paths()[-1] == "after.jpg"
