"""The engine gathers queries without changing an answer; the index behind it may change, and its pictures are bounded."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from tests.conftest import figure
from tests.serve.conftest import CROSS, SMALL

from sbirlib import Pipeline, build, open_index
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch
from sbirlib.search import SearchIndex
from sbirlib.serve import app
from sbirlib.serve.engine import Engine, Part, mixture
from sbirlib.serve.follower import Follower, stamp_of
from sbirlib.serve.metrics import Meters
from sbirlib.serve.pictures import Pictures
from sbirlib.serve.schemas import Page

CPU = torch.device("cpu")


def parts(index: SearchIndex, i: int) -> list[Part]:
    return [Part(index.transform.prepare(figure(i % 6, i, True), SKETCH), SKETCH)]


def test_an_index_that_expands_answers_the_page_as_it_answers_python(pipeline: Pipeline, photos: Path) -> None:
    index = build("mathm", **SMALL, expansion={"photos": 3}).index(photos, progress=False)
    engine = Engine(index, CPU, Meters(), most=8)
    sketch, photo = figure(2, 2, True), figure(3, 3, False)
    result = engine.ask(index, parts(index, 2), Page(k=5)).result(10)
    hits = index.search(sketch, k=5)
    assert [str(record["path"]) for record in result.records] == [hit.path for hit in hits]
    assert result.scores == pytest.approx([hit.score for hit in hits], abs=1e-5)
    both = [*(replace(part, weight=0.5) for part in parts(index, 2)), Part(index.transform.prepare(photo, PHOTO), PHOTO, 0.5)]
    assert 0.9 < engine.ask(index, both, Page(k=1)).result(10).scores[0] <= 1 + 1e-5, "a mixture is a unit vector too"


def test_queries_that_wait_are_encoded_together_and_answered_as_if_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = open_index(folder)
    pages = [Page(k=3 + i % 4, offset=i % 3, where={"category": [f"class{i % 3}"]} if i % 2 else {}) for i in range(20)]
    single = Engine(index, CPU, Meters(), most=1)
    alone = [single.ask(index, parts(index, i), page).result(10) for i, page in enumerate(pages)]
    sizes: list[int] = []
    plain = index.encoder.query_vectors

    def counted(batch: Batch) -> torch.Tensor:
        sizes.append(len(batch))
        return plain(batch)

    monkeypatch.setattr(index.encoder, "query_vectors", counted)
    engine = Engine(index, CPU, Meters(), most=64)
    with engine.coming():  # they are held together
        answers = [engine.ask(index, parts(index, i), page) for i, page in enumerate(pages)]
        together = [answer.result(10) for answer in answers]
    assert len(sizes) < 10, sizes
    assert 20 <= sum(sizes) <= 20 + 7 * len(sizes)
    assert set(sizes) <= {1, 2, 4, 8, 16, 24}, "each new number of images has kernels of its own"
    for one, other in zip(alone, together, strict=True):
        assert (one.ids, one.records, one.total) == (other.ids, other.records, other.total)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_one_wrong_query_spoils_no_other(folder: Path) -> None:
    index = open_index(folder)
    engine = Engine(index, CPU, Meters(), most=64)
    with engine.coming():
        right = engine.ask(index, parts(index, 0), Page())
        wrong = engine.ask(index, parts(index, 0), Page(where={"yaer": [1]}))
        assert len(right.result(10).ids) == 18
        with pytest.raises(ValueError, match="no photo here has a field"):
            wrong.result(10)
        crooked = engine.ask(index, [Part(torch.zeros(4, 32, 32, dtype=torch.uint8), SKETCH)], Page())
        with pytest.raises(Exception, match="were expected"):
            crooked.result(10)
    assert len(engine.ask(index, parts(index, 0), Page()).result(10).ids) == 18


@pytest.mark.parametrize("sizes", [(1, 1), (3, 1), (2, 4)])
def test_a_mixture_scores_the_weighted_sum_of_scores(sizes: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(size, 5, generator=generator) for size in sizes)
    gallery = torch.randn(30, 5, generator=generator)
    scores = [(gallery @ vectors.T).amax(1) for vectors in (one, other)]
    assert torch.allclose((gallery @ mixture([(one, 0.3), (other, 0.7)]).T).amax(1), 0.3 * scores[0] + 0.7 * scores[1], atol=1e-5)


def test_an_index_that_another_process_changes_is_taken_up(
    folder: Path, serving: Callable[..., TestClient], photos: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sbirlib.serve.follower.EVERY", 0.0)
    with serving() as client:
        assert client.get("/health").json()["photos"] == 18
        assert client.get("/fields").json()["fields"]["year"]["distinct"] == 18
        other = open_index(folder)
        figure(0, 77, False).save(photos / "new.png")
        other.add([photos / "new.png"], progress=False)
        other.save(folder)
        wait_until(lambda: client.get("/health").json()["photos"] == 19)
        hits = client.post("/search", json={"drawing": CROSS, "k": 19}).json()["hits"]
        new = next(hit for hit in hits if hit["name"] == "new.png")
        assert client.get(f"/thumbnail/{new['id']}").status_code == 200
        assert "sbirlib_reloads_total 1.0" in client.get("/metrics").text
        manifest = folder / "index.json"
        whole = manifest.read_text()
        manifest.write_text(whole[:50])
        assert len({client.get("/health").json()["photos"] for _ in range(20)}) == 1, "what was opened is served on"
        manifest.unlink()
        assert client.post("/search", json={"drawing": CROSS}).status_code == 200


def test_a_change_while_the_index_is_opened_is_not_missed(folder: Path, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sbirlib.serve.follower.EVERY", 0.0)

    def slow(place: Path, **how: Any) -> SearchIndex:
        index = open_index(place, **how)
        other = open_index(place)
        other.remove([str(photos / "class0" / "0.png")])
        other.save(place)
        return index

    monkeypatch.setattr("sbirlib.serve.application.open_index", slow)
    with TestClient(app(folder, cache=tmp_path / "cache")) as client:
        wait_until(lambda: client.get("/health").json()["photos"] == 17)


@pytest.mark.parametrize("fault", [InputError("a file is missing"), OSError("the disk is away"), RuntimeError("of a plugin")])
def test_an_index_that_cannot_be_opened_yet_is_tried_again_after_growing_pauses(
    folder: Path, photos: Path, monkeypatch: Any, fault: Exception
) -> None:
    now = 0.0
    times: list[float] = []
    monkeypatch.setattr("sbirlib.serve.follower.time", SimpleNamespace(monotonic=lambda: now))

    def late(place: Path, *, verify: bool | None) -> SearchIndex:
        times.append(now)
        assert verify is False, "as the index was opened first"
        if len(times) < 10:
            raise fault
        return open_index(place, verify=verify)

    monkeypatch.setattr("sbirlib.serve.follower.open_index", late)
    engine = Engine(open_index(folder), CPU, Meters(), most=1)
    follower = Follower(folder, stamp_of(folder), engine, verify=False)

    async def requests(seconds: int) -> None:
        nonlocal now
        for _ in range(2 * seconds):
            now += 0.5
            follower.follow()
            await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    def change(name: str) -> None:
        other = open_index(folder)
        other.remove([str(photos / "class0" / name)])
        other.save(folder)

    with ThreadPoolExecutor(1) as pool:  # the main thread may have a loop, that of the browser's tests
        pool.submit(asyncio.run, requests(10)).result()
        change("0.png")
        pool.submit(asyncio.run, requests(150)).result()
        assert [after - before for before, after in pairwise(times)] == [1, 2, 4, 8, 16, 32, 60]
        change("3.png")
        pool.submit(asyncio.run, requests(10)).result()
    assert [after - before for before, after in pairwise(times)][-2:] == [times[8] - times[7], 1], "a further change is tried at once"
    assert len(engine.index) == 16
    assert follower.version == 1


def test_an_index_made_anew_by_another_model_is_taken_up(folder: Path, serving: Any, photos: Path, monkeypatch: Any) -> None:
    from sbirlib import build

    monkeypatch.setattr("sbirlib.serve.follower.EVERY", 0.0)
    with serving() as client:
        before = client.post("/search", json={"drawing": CROSS, "k": 18}).json()["hits"]
        encoder = {"backbone": "resnet10t", "dim": 12, "pretrained": False}
        build("mathm", encoder=encoder, transform={"size": 48}, seed=3).index(photos, progress=False).save(folder)
        wait_until(lambda: "sbirlib_reloads_total 1.0" in client.get("/metrics").text)
        after = client.post("/search", json={"drawing": CROSS, "k": 18}).json()["hits"]
        assert [hit["score"] for hit in after] != [hit["score"] for hit in before]


def test_searches_go_on_while_photos_come_and_go(folder: Path, serving: Any, photos: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sbirlib.serve.follower.EVERY", 0.0)
    ends = threading.Event()

    def change() -> None:
        for i in range(6):
            index = open_index(folder)
            figure(0, 100 + i, False).save(photos / f"new{i}.png")
            index.add([photos / f"new{i}.png"], progress=False)
            index.remove([str(next(photos.glob("class*/*.png")).parent / f"{i}.png")] if (photos / "class0" / f"{i}.png").exists() else [])
            index.save(folder)
        ends.set()

    with serving() as client:
        changing = threading.Thread(target=change)
        changing.start()
        statuses = []
        while not ends.is_set():
            with ThreadPoolExecutor(4) as pool:
                statuses += [r.status_code for r in pool.map(lambda _: client.post("/search", json={"drawing": CROSS, "k": 30}), range(8))]
        changing.join()
        assert set(statuses) == {200}
        wait_until(lambda: client.get("/health").json()["photos"] == len(open_index(folder)))


def test_pictures_are_made_once_and_bounded(pipeline: Pipeline, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sbirlib.serve.pictures.CHECKED", 1)
    index, cache = pipeline.index(photos, progress=False), tmp_path / "cache"
    paths = [str(path) for path in sorted(photos.glob("*/*.png"))]
    size = len(Pictures(None).read(index, paths[0], 256))
    pictures = Pictures(cache, limit=8 * size)
    for i, path in enumerate(paths):
        pictures.read(index, path, 256)
        os.utime(max(cache.glob("*/*.jpg"), key=lambda file: file.stat().st_mtime_ns), (i, i))
    assert sum(file.stat().st_size for file in cache.glob("*/*.jpg")) <= 8 * size
    reads: list[str] = []
    plain = SearchIndex.photo

    def counted(self: SearchIndex, path: str, **how: int) -> Image.Image:
        reads.append(path)
        return plain(self, path, **how)

    monkeypatch.setattr(SearchIndex, "photo", counted)
    pictures.read(index, paths[-1], 256)
    assert not reads
    pictures.read(index, paths[0], 256)
    figure(3, 3, False).resize((64, 64)).save(paths[0])  # the photo is another now
    pictures.read(index, paths[0], 256)
    assert reads == [paths[0], paths[0]]


def test_pictures_are_served_where_none_can_be_kept(
    pipeline: Pipeline, photos: Path, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr("sbirlib.serve.pictures.CHECKED", 1)
    index, path = pipeline.index(photos, progress=False), str(next(photos.glob("*/*.png")))
    expected = Pictures(None).read(index, path, 256)
    (tmp_path / "file").write_bytes(b"")
    pictures = Pictures(tmp_path / "file" / "cache")  # as on a full disk, nothing can be written there
    assert [pictures.read(index, path, 256) for _ in range(3)] == [expected] * 3
    assert caplog.text.count("not kept") == 1
    kept = Pictures(tmp_path / "cache")
    kept.read(index, path, 256)
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700, "photos may be for one user alone"

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "of the test")

    monkeypatch.setattr("sbirlib.serve.pictures.os.utime", refuse)
    monkeypatch.setattr(SearchIndex, "photo", refuse)
    assert kept.read(index, path, 256) == expected, "a cache that may only be read is read"


def test_a_server_warms_up_between_its_queries(folder: Path, monkeypatch: Any) -> None:
    index = open_index(folder)
    engine, order = Engine(index, CPU, Meters(), most=64), threading.Event()
    sizes: list[int] = []
    plain = index.encoder.query_vectors

    def counted(batch: Batch) -> torch.Tensor:
        if not sizes:
            order.wait(10)
        sizes.append(len(batch))
        return plain(batch)

    monkeypatch.setattr(index.encoder, "query_vectors", counted)
    engine.warm_up()
    answer = engine.ask(index, parts(index, 0), Page())
    order.set()
    assert len(answer.result(10).ids) == 18
    assert sizes[:2] == [1, 1], "the query comes before the second size"
    wait_until(lambda: len(sizes) == 12)
    assert sizes[2:] == [2, 4, *range(8, 65, 8)]
    monkeypatch.setattr("sbirlib.serve.engine.SLOW", 0.0)
    sizes.clear()
    engine.warm_up()
    engine.ask(index, parts(index, 0), Page()).result(10)
    assert sizes == [1, 1], "for a slow call no query should wait"


def test_an_index_in_memory_is_served_with_photos_that_have_no_file(pipeline: Pipeline) -> None:
    client = TestClient(app(pipeline.index([figure(i, i, False) for i in range(6)], progress=False)))
    hit = client.post("/search", json={"drawing": CROSS, "k": 1}).json()["hits"][0]
    assert client.get(f"/photo/{hit['id']}").status_code == 200


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
