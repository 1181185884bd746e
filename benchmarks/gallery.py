"""A large gallery from its vectors to its users: indexed, searched, narrowed, added to, killed and opened again, all by the command line.

    python benchmarks/gallery.py                                          # 200,000 x 512 in each kind of index
    python benchmarks/gallery.py --kinds milvus --uri http://localhost:19530
    python benchmarks/gallery.py --photos 20000 --kinds flat hnsw

The gallery, in files as `sbirlib embed` leaves them, are the vectors of 500 drawn photos, each many times with noise half as wide as the
photos themselves; photos that are added, and the sketches, are drawn too. A small network that nothing has trained encodes them, so that
sketches lie off the photos. Every line is a process of its own, which begins by importing everything. `found` is the share of the ten best
photos of each sketch that the answer holds. The process that is killed adds 500 photos, and dies after six tenths of the time that another
took for as many.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from indexes import DIM, KINDS
from sbirlib import build, open_index, synthetic
from sbirlib.retrieval.indexes.shards import Shard, write_shard

SKETCHES, CENTRES, MORE, ROWS, CATEGORIES, K = 20, 500, 500, 8192, 40, 10
NOISE = 0.5
Mask = NDArray[np.bool_]
SBIRLIB = str(Path(sys.executable).parent / "sbirlib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200_000)
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    parser.add_argument("--uri", help="of a Milvus server, for --kinds milvus")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(Path(folder), given.photos)
        print("| kind | step | seconds | what was seen |\n| --- | --- | ---: | --- |")
        for kind in given.kinds:
            gallery.live(kind, ["--set", f"uri={given.uri}", "--set", "collection=gallery"] if kind == "milvus" else [])


class Gallery:
    """A folder with a model, vectors of many photos, sketches to ask with and photos to add; and what is right to be found."""

    def __init__(self, folder: Path, photos: int) -> None:
        self.folder, self.model, self.photos = folder, str(folder / "model.safetensors"), photos
        pipeline = build(
            "mathm-ce", encoder={"name": "backbone", "backbone": "resnet10t", "pretrained": False, "dim": DIM}, transform={"size": 64}
        )
        pipeline.export(self.model)
        pictures = synthetic(instances=(CENTRES + 2 * MORE) // 50)  # of 50 categories
        vectors = around(pipeline.embed(pictures.photos.subset(slice(CENTRES)), progress=False), photos)
        for number, start in enumerate(range(0, photos, ROWS)):
            rows = range(start, min(start + ROWS, photos))
            records = [{"path": f"{i}.jpg", "category": str(i % CATEGORIES)} for i in rows]
            name = f"part-{number:05d}-of-{-(-photos // ROWS):05d}.safetensors"
            write_shard(folder / "vectors" / name, Shard(vectors[rows.start : rows.stop].numpy(), records, pipeline.encoder_digest()))
        for name, items, first, count in (
            ("sketches", pictures.sketches, 0, SKETCHES),
            ("more", pictures.photos, CENTRES, MORE),
            ("others", pictures.photos, CENTRES + MORE, MORE),
        ):
            (folder / name).mkdir()
            for i in range(first, first + count):
                items.read(i).save(folder / name / f"{i:05d}.png")
        self.paths = [f"{i}.jpg" for i in range(photos)]
        self.paths += [str(path) for name in ("more", "others") for path in sorted((folder / name).iterdir())]
        added = [pipeline.embed(str(folder / name), progress=False) for name in ("more", "others")]
        self.scores = pipeline.embed(str(folder / "sketches"), role="query", progress=False).flatten(0, 1) @ torch.cat([vectors, *added]).T

    def live(self, kind: str, options: list[str]) -> None:
        """One kind of index, from its making to the opening after a kill; a line for each step."""
        index, place = str(self.folder / kind), np.arange(len(self.paths))

        def step(what: str, *command: str) -> tuple[str, float]:
            began = time.monotonic()
            done = subprocess.run([SBIRLIB, *command], capture_output=True, text=True, check=False)
            seconds = time.monotonic() - began
            if done.returncode:
                raise SystemExit(f"{kind}: {what}: {done.stderr[-1000:]}")
            return done.stdout, seconds

        def tell(what: str, seconds: float, seen: str) -> None:
            print(f"| {kind} | {what} | {seconds:.1f} | {seen} |", flush=True)

        _, seconds = step("index", "index", self.model, str(self.folder / "vectors"), "--out", index, "--kind", kind, *options)
        tell("index", seconds, f"{len(open_index(index).vectors):,} photos")
        search = ("search", str(self.folder / "sketches"), "--index", index, "-k", str(K), "--json")
        answer, seconds = step("search", *search)
        tell(f"search {SKETCHES} sketches", seconds, f"found {self.found(answer, place < self.photos):.2f}")
        answer, seconds = step("narrow", *search, "--where", "category=7")
        tell(
            f"search one category of {CATEGORIES}",
            seconds,
            f"found {self.found(answer, (place < self.photos) & (place % CATEGORIES == 7)):.2f}",
        )
        _, added = step("add", "add", str(self.folder / "more"), "--index", index)
        before = len(open_index(index).vectors)
        tell(f"add {MORE}", added, f"{before:,} photos")
        command = [SBIRLIB, "add", str(self.folder / "others"), "--index", index]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.6 * added)
        child.kill()
        child.wait()
        answer, seconds = step("search after the kill", *search)
        after = len(open_index(index).vectors)
        tell("add, killed; search again", seconds, f"{after:,} photos; found {self.found(answer, place < after):.2f}")
        said, seconds = step("add again", "add", str(self.folder / "others"), "--index", index)
        tell("add again", seconds, said.strip().partition(" in ")[0])
        _, seconds = step("remove", "remove", *(f"{i}.jpg" for i in range(10)), "--index", index)
        tell("remove 10", seconds, f"{len(open_index(index).vectors):,} photos")

    def found(self, answer: str, allowed: Mask) -> float:
        """The share of the right ones of the `allowed` photos in what `search --json` printed."""
        right = self.scores.masked_fill(~torch.from_numpy(allowed), -torch.inf).topk(K).indices.tolist()
        shares = []
        for line, wanted in zip(answer.splitlines(), right, strict=True):
            names = {hit["path"] for hit in json.loads(line)["hits"]}
            shares.append(len(names & {self.paths[i] for i in wanted}) / K)
        return float(np.mean(shares))


def around(centres: Tensor, count: int) -> Tensor:
    """So many unit vectors [count, V], each by one of the centres [n, V]."""
    generator = torch.Generator().manual_seed(0)
    rows = centres[torch.randint(len(centres), (count,), generator=generator)]
    rows += NOISE * centres.std(0) * torch.randn(rows.shape, generator=generator)
    return F.normalize(rows, dim=1)


if __name__ == "__main__":
    main()
