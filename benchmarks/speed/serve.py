"""The service under load: many clients that draw at once, with queries gathered and without, and one user who waits for pictures.

    python -m benchmarks.speed.serve                        # 64 clients, 60 s, 100,000 photos; --seconds N, --clients N, --photos N

A server process over a flat index of random unit vectors [100,000, 512], with MobileNetV2 at 96 px as encoder (its weights do not matter to
time), and a process of clients on loopback that share the two cores with it. Each client sends its own drawing, waits for the answer, holds it
against the answer that it got alone, and sends the next. "One batch" is the time that the idle server takes to encode 64 images in one call.
The single user's time runs from the request, which the page sends 150 ms after the last stroke, until 24 thumbnails, made for the first time
from photos of 640 x 480, have arrived over 6 connections, as a browser loads them.

    python -m benchmarks.speed.serve --durability --clients 16 --photos 5000 --seconds 20

Instead of times: clients ask `sbirlib serve` without a pause while `sbirlib add` changes its index, and while the server is killed (SIGKILL)
and started again. Every answer says of how many photos it is, and is held against the library's own search of so many; no photo may be lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.speed.timing import processor, seconds
from sbirlib import build, open_index
from sbirlib.data.strokes import Drawing, render
from sbirlib.features import Batch
from sbirlib.memory import keep_freed_memory

DIM, SIDE, BATCH, USERS = 512, 96, 64, 40
FILES = 200  # different photos, each under many names
COMMAND = [sys.executable, "-c", "from sbirlib.cli import main; main()"]
ADDITIONS, SHOWN, NEAR = 3, 24, 1e-4  # folders that are added; photos of an answer; difference of scores of one photo in other batches


def main() -> None:
    options = parse_options()
    if options.server:
        serve(Path(options.server), gather=not options.single)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_index(Path(folder), options.photos)
        if options.durability:
            print(json.dumps(survival(Path(folder) / "index", more_photos(Path(folder)), options.clients, options.seconds), indent=1))
            return
        results = {name: load(Path(folder), options, single=single) for name, single in (("gathered", False), ("one by one", True))}
    about = {"photos": options.photos, "clients": options.clients, "seconds": options.seconds, "dim": DIM, "pixels": SIDE}
    versions = {"processor": processor(), "torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
    ratio = results["gathered"]["answers_a_second"] / results["one by one"]["answers_a_second"]
    print(json.dumps({**results, "throughput_ratio": round(ratio, 2), **about, **versions}, indent=1))


def make_index(folder: Path, photos: int) -> None:
    """Write an index of random vectors over so many photos into folder/index."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(min(FILES, photos)):
        smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
        smooth.save(folder / "photos" / f"{i}.jpg", quality=90)
    for i in range(FILES, photos):
        os.link(folder / "photos" / f"{i % FILES}.jpg", folder / "photos" / f"{i}.jpg")
    encoder = {"name": "backbone", "backbone": "mobilenetv2_100", "dim": DIM, "pretrained": False}
    index = build(encoder=encoder, losses=["cross_entropy"], transform={"size": SIDE}).index(
        [folder / "photos" / "0.jpg"], progress=False
    )  # the photo is removed again: an index cannot be saved without one
    vectors = torch.nn.functional.normalize(torch.randn(photos - 1, DIM, generator=torch.Generator().manual_seed(0)), dim=1)
    index.index.add(vectors, [{"path": str(folder / "photos" / f"{i}.jpg"), "category": f"class{i % 50}"} for i in range(1, photos)])
    index.save(folder / "index")


def serve(folder: Path, *, gather: bool) -> None:
    """Serve the index on a free port, as `sbirlib serve` does, and print the port and the time of one batch."""
    from sbirlib.serve import app
    from sbirlib.serve.server import listen, run

    keep_freed_memory()
    index = open_index(folder / "index")
    batch = Batch(torch.rand(BATCH, 3, SIDE, SIDE), *(torch.zeros(BATCH, dtype=torch.int64) for _ in range(3)))
    with torch.inference_mode():
        index.encoder.eval()
        times = [seconds(lambda: index.encoder.query_vectors(batch)) for _ in range(15)]
    with tempfile.TemporaryDirectory() as cache, listen("127.0.0.1", 0) as sock:
        print(json.dumps({"port": sock.getsockname()[1], "batch": median(times[5:])}), flush=True)
        run(app(folder / "index", gather=gather, cache=cache), sock)


def load(folder: Path, options: argparse.Namespace, *, single: bool) -> dict[str, Any]:
    """The figures of one server."""
    line = [sys.executable, "-m", "benchmarks.speed.serve", "--server", str(folder), *(["--single"] if single else [])]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            about = json.loads(server.stdout.readline())
            user = asyncio.run(one_user(about["port"]))
            figures = asyncio.run(clients(about["port"], options.clients, options.seconds, server.pid))
        finally:
            server.terminate()
    batch = round(1000 * about["batch"], 1)
    figures |= {"one_batch_ms": batch, "p95_over_one_batch": round(figures["p95_ms"] / batch, 2), "one_user_to_pictures_ms": user}
    print(f"{'one by one' if single else 'gathered'}: {figures}", file=sys.stderr)
    return figures


async def clients(port: int, count: int, duration: float, server: int) -> dict[str, Any]:
    """Load from so many clients; latencies, answers that differ from those alone, and the server's memory at 10 s and at the end."""
    bodies = [search_body(i) for i in range(count)]
    connection = await asyncio.open_connection("127.0.0.1", port)
    alone = [json.loads((await request(connection, "POST", "/search", body))[1]) for body in bodies]
    latencies: list[float] = []
    wrong = errors = 0
    memory: list[int] = []
    start = time.monotonic()

    async def client(i: int) -> None:
        nonlocal wrong, errors
        own = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() - start < duration:
            begin = time.monotonic()
            status, content = await request(own, "POST", "/search", bodies[i])
            latencies.append(time.monotonic() - begin)
            errors += status != 200
            wrong += status == 200 and not same(json.loads(content), alone[i])

    async def watch() -> None:
        await asyncio.sleep(min(10.0, duration / 2))
        memory.append(resident(server))
        await asyncio.sleep(max(0.0, duration - 1 - (time.monotonic() - start)))
        memory.append(resident(server))

    await asyncio.gather(watch(), *(client(i) for i in range(count)))
    numbers = await meters(port)
    p50, p95 = np.percentile(latencies, [50, 95]) * 1000
    return {
        "answers_a_second": round(len(latencies) / (time.monotonic() - start), 1),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "answers": len(latencies),
        "errors": errors,
        "wrong": wrong,
        "memory_mib": [round(value / 2**20) for value in memory],
        **numbers,
    }


async def meters(port: int) -> dict[str, float]:
    """Means of the server's own numbers: queries in a call, and milliseconds of a call of the encoder and of a search."""
    text = (await request(await asyncio.open_connection("127.0.0.1", port), "GET", "/metrics"))[1].decode()
    sums = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    names = {"queries_a_call": ("batch_queries", 1), "encode_ms": ("encode_seconds", 1000), "search_ms": ("search_seconds", 1000)}
    return {
        name: round(unit * float(sums[f"sbirlib_{meter}_sum"]) / float(sums[f"sbirlib_{meter}_count"]), 1)
        for name, (meter, unit) in names.items()
    }


async def one_user(port: int) -> float:
    """Median milliseconds from a request to its 24 pictures."""
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
    times = []
    for i in range(USERS):
        start = time.monotonic()
        hits = json.loads((await request(connections[0], "POST", "/search", search_body(1000 + i)))[1])["hits"]
        ids = iter([hit["id"] for hit in hits])

        async def pictures(own: Any, ids: Any = ids) -> None:
            for id_ in ids:
                status, _ = await request(own, "GET", f"/thumbnail/{id_}")
                assert status == 200, status

        await asyncio.gather(*(pictures(own) for own in connections))
        times.append(1000 * (time.monotonic() - start))
    return round(median(times[5:]), 1)


class Answer(NamedTuple):
    """An answer: times of its request and of its arrival, number of its client, status and content."""

    begin: float
    end: float
    client: int
    status: int
    content: dict[str, Any]


def more_photos(folder: Path) -> list[Path]:
    """Folders of photos that are not in the index yet."""
    for i in range(ADDITIONS):
        (folder / f"more{i}").mkdir()
        for j in range(3):
            os.link(folder / "photos" / f"{10 * i + j}.jpg", folder / f"more{i}" / f"more{i}-{j}.jpg")
    return [folder / f"more{i}" for i in range(ADDITIONS)]


class Survival:
    """A server under load, killed once while its index grows: its answers, all photos, and their number at the end of each addition."""

    def __init__(self, index: Path, cache: str) -> None:
        self.index, self.cache = index, cache
        self.photos = set(open_index(index).index.paths())
        self.added: list[tuple[float, int]] = []
        self.answers: list[Answer] = []
        self.broken, self.restart, self.ends = 0, 0.0, False
        self.server, self.port = launch(index, cache)

    async def run(self, additions: Sequence[Path], clients: int, duration: float) -> None:
        """Load from so many clients until all folders are added, and the server was killed meanwhile, and for so many seconds."""
        start, load = time.monotonic(), [asyncio.create_task(self.client(i)) for i in range(clients)]
        for i, folder in enumerate(additions):
            await asyncio.gather(self.add(folder), *([self.kill()] if i == len(additions) // 2 else []))
        await asyncio.sleep(max(start + duration, self.added[-1][0] + 3) - time.monotonic())  # an addition is taken up in a second
        self.ends = True
        await asyncio.gather(*load)

    async def client(self, i: int) -> None:
        connection = None
        while not self.ends:
            begin = time.monotonic()
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", self.port)
                status, content = await request(connection, "POST", "/search", search_body(i))
                self.answers.append(Answer(begin, time.monotonic(), i, status, json.loads(content)))
            except (ConnectionError, asyncio.IncompleteReadError):
                connection, self.broken = None, self.broken + 1
                await asyncio.sleep(0.05)

    async def add(self, folder: Path) -> None:
        process = await asyncio.create_subprocess_exec(*COMMAND, "add", str(folder), "--index", str(self.index), stdout=2)  # on stderr
        assert await process.wait() == 0
        self.photos.update(map(str, folder.iterdir()))
        self.added.append((time.monotonic(), len(self.photos)))

    async def kill(self) -> None:
        self.server.kill()
        await asyncio.to_thread(self.server.communicate)
        start = time.monotonic()
        self.server, _ = await asyncio.to_thread(launch, self.index, self.cache, self.port)
        self.restart = time.monotonic() - start


def survival(index: Path, additions: Sequence[Path], clients: int, duration: float = 0.0) -> dict[str, Any]:
    """Numbers of answers and losses while folders of photos are added to an index and its server is killed and started again, under load."""
    with tempfile.TemporaryDirectory() as cache:
        run = Survival(index, cache)
        try:
            asyncio.run(run.run(additions, clients, duration))
        finally:
            run.server.kill()
            run.server.communicate()
    delays = [min((a.end for a in run.answers if a.content.get("total", 0) >= count), default=math.inf) - end for end, count in run.added]
    lost = len(run.photos - set(open_index(index).index.paths()))
    more = {"lost": lost, "found_after_s": round(max(0.0, *delays), 1), "broken": run.broken, "restart_s": round(run.restart, 1)}
    return {**judged(index, run.answers), **more}


def launch(index: Path, cache: str, port: int = 0) -> tuple[subprocess.Popen[str], int]:
    """A process of `sbirlib serve` that listens, and its port."""
    line = [*COMMAND, "serve", str(index), "--port", str(port), "--cache", cache]
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    return server, int(server.stdout.readline().rpartition(":")[2].partition("/")[0])


def judged(index: Path, answers: Sequence[Answer]) -> dict[str, int]:
    """Numbers of answers: all, those that are wrong, of another status than 200, and of fewer photos than an answer to an earlier request."""
    opened = open_index(index)
    ids = {Path(path).name: i for i, path in enumerate(opened.index.paths())}
    drawings = [Drawing.model_validate(json.loads(search_body(i))["drawing"]) for i in range(1 + max(answer.client for answer in answers))]
    good = sorted(answer for answer in answers if answer.status == 200)  # the first is of the fewest photos
    rankings = opened.search_all([render(drawing, opened.transform) for drawing in drawings], k=SHOWN + len(ids) - good[0].content["total"])
    wrong = backwards = latest = 0
    earlier = sorted((answer.end, answer.content["total"]) for answer in good)
    for answer in good:
        hits, total = answer.content["hits"], answer.content["total"]
        ranking = [(Path(hit.path).name, hit.score) for hit in rankings[answer.client] if ids[Path(hit.path).name] < total]
        wrong += not equals(hits, ranking[:SHOWN])
        while earlier[0][0] < answer.begin:
            latest = max(latest, earlier.pop(0)[1])
        backwards += total < latest
    return {"answers": len(answers), "wrong": wrong, "other_status": len(answers) - len(good), "backwards": backwards}


def equals(hits: Sequence[dict[str, Any]], ranking: Sequence[tuple[str, float]]) -> bool:
    """Whether hits are those of a ranking of names and scores; photos of nearly equal scores may change places."""
    scores, least = dict(ranking), ranking[-1][1]
    pairs = [(hit["score"], scores.get(hit["name"], least), score) for hit, (_, score) in zip(hits, ranking, strict=False)]
    return len(hits) == len(ranking) and all(max(abs(own - of_name), abs(own - of_rank)) < NEAR for own, of_name, of_rank in pairs)


def search_body(seed: int) -> bytes:
    """A drawing of five curves of 40 points."""
    rng = np.random.default_rng(seed)
    strokes = []
    for _ in range(5):
        x, y, radius, turn = rng.uniform(0.2, 0.8, 4)
        points = [[x + radius / 3 * math.cos(turn + t / 8), y + radius / 3 * math.sin(turn + t / 6)] for t in range(40)]
        strokes.append({"points": np.clip(points, 0, 1).round(3).tolist()})
    return json.dumps({"drawing": {"strokes": strokes}}).encode()


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two answers have the same scores; photos of nearly equal scores may change places with the size of a batch."""
    scores = [np.array([hit["score"] for hit in answer["hits"]]) for answer in (one, other)]
    return len(scores[0]) == len(scores[1]) and np.abs(scores[0] - scores[1]).max() < 1e-4


async def request(connection: Any, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request on an open connection: status and content."""
    reader, writer = connection
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    writer.write("\r\n".join(head).encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(answer.split("content-length:")[1].split("\r\n")[0])
    return int(answer.split(" ", 2)[1]), await reader.readexactly(length)


def resident(process: int) -> int:
    """Bytes of a process in memory."""
    with open(f"/proc/{process}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument(
        "--durability", action="store_true", help="hold answers against the library's own, while photos come and the server is killed"
    )
    parser.add_argument("--server", help=argparse.SUPPRESS)
    parser.add_argument("--single", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
