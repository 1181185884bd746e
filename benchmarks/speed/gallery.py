"""Life cycle of a large gallery on the command line: index, search, filter, add, SIGKILL, reopen, remove.

    python -m benchmarks.speed.gallery                                          # 200,000 x 512 in each kind of index
    python -m benchmarks.speed.gallery --kinds milvus --uri http://localhost:19530
    python -m benchmarks.speed.gallery --photos 20000 --kinds flat hnsw

The vectors lie in files as `sbirlib encode` writes them: those of 500 synthetic photos, each repeated with noise of half the standard
deviation of the photos. Added photos and sketches are synthetic too. The encoder is a small untrained network, so sketches lie off the
photos. Every step is a process of its own and includes its start-up. `found` is the share of the ten nearest photos of each sketch that
the answer contains. The killed process adds 500 photos, and dies after 0.6 times the seconds that an earlier process took for as many.
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

from benchmarks.speed.indexes import DIM, KINDS
from sbirlib import Pipeline, build, open_index, synthetic
from sbirlib.retrieval.indexes.shards import Shard, write_shard

SKETCHES, CENTRES, MORE, ROWS, CATEGORIES, K = 20, 500, 500, 8192, 40, 10
NOISE = 0.5
Mask = NDArray[np.bool_]
SBIRLIB = str(Path(sys.executable).parent / "sbirlib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200_000)
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    parser.add_argument("--uri", help="address of a Milvus server, for --kinds milvus")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(Path(folder), options.photos)
        print("| kind | step | seconds | what was seen |\n| --- | --- | ---: | --- |")
        for kind in options.kinds:
            gallery.life_cycle(kind, ["--set", f"uri={options.uri}", "--set", "collection=gallery"] if kind == "milvus" else [])


class Gallery:
    """A folder with a model, vectors of many photos, sketches and photos to add; and the exact scores of all photos."""

    def __init__(self, folder: Path, photos: int) -> None:
        self.folder, self.model, self.photos = folder, str(folder / "model.safetensors"), photos
        pipeline = build(
            "mathm-ce", encoder={"name": "backbone", "backbone": "resnet10t", "pretrained": False, "dim": DIM}, transform={"size": 64}
        )
        pipeline.export(self.model)
        images = synthetic(instances=(CENTRES + 2 * MORE) // 50)  # of 50 categories
        vectors = around(pipeline.encode_images(images.photos.subset(slice(CENTRES)), progress=False), photos)
        self._write_vectors(vectors, pipeline)
        for name, items, first, count in (
            ("sketches", images.sketches, 0, SKETCHES),
            ("more", images.photos, CENTRES, MORE),
            ("others", images.photos, CENTRES + MORE, MORE),
        ):
            (folder / name).mkdir()
            for i in range(first, first + count):
                items.read(i).save(folder / name / f"{i:05d}.png")
        self.paths = [f"{i}.jpg" for i in range(photos)]
        self.paths += [str(path) for name in ("more", "others") for path in sorted((folder / name).iterdir())]
        added = [pipeline.encode_images(str(folder / name), progress=False) for name in ("more", "others")]
        self.scores = (
            pipeline.encode_images(str(folder / "sketches"), side="query", progress=False).flatten(0, 1) @ torch.cat([vectors, *added]).T
        )

    def life_cycle(self, kind: str, options: list[str]) -> None:
        """Take one kind of index through every step and print one line for each."""
        index, place = str(self.folder / kind), np.arange(len(self.paths))
        search = ("search", str(self.folder / "sketches"), "--index", index, "-k", str(K), "--json")
        add_others = ("add", str(self.folder / "others"), "--index", index)

        def line(step: str, seconds: float, result: str) -> None:
            print(f"| {kind} | {step} | {seconds:.1f} | {result} |", flush=True)

        _, seconds = execute("index", self.model, str(self.folder / "vectors"), "--out", index, "--kind", kind, *options)
        line("index", seconds, f"{photo_count(index):,} photos")
        answer, seconds = execute(*search)
        line(f"search {SKETCHES} sketches", seconds, f"found {self.share(answer, place < self.photos):.2f}")
        answer, seconds = execute(*search, "--where", "category=7")
        share = self.share(answer, (place < self.photos) & (place % CATEGORIES == 7))
        line(f"search one category of {CATEGORIES}", seconds, f"found {share:.2f}")
        _, seconds = execute("add", str(self.folder / "more"), "--index", index)
        line(f"add {MORE}", seconds, f"{photo_count(index):,} photos")
        execute_and_kill(*add_others, after=0.6 * seconds)
        answer, seconds = execute(*search)
        count = photo_count(index)
        line("add, killed; search again", seconds, f"{count:,} photos; found {self.share(answer, place < count):.2f}")
        output, seconds = execute(*add_others)
        line("add again", seconds, output.strip().partition(" in ")[0])
        _, seconds = execute("remove", *(f"{i}.jpg" for i in range(10)), "--index", index)
        line("remove 10", seconds, f"{photo_count(index):,} photos")

    def share(self, answer: str, allowed: Mask) -> float:
        """Share of the nearest `allowed` photos [G] that the output of `search --json` contains."""
        nearest = self.scores.masked_fill(~torch.from_numpy(allowed), -torch.inf).topk(K).indices.tolist()
        shares = []
        for line, expected in zip(answer.splitlines(), nearest, strict=True):
            paths = {hit["path"] for hit in json.loads(line)["hits"]}
            shares.append(len(paths & {self.paths[i] for i in expected}) / K)
        return float(np.mean(shares))

    def _write_vectors(self, vectors: Tensor, pipeline: Pipeline) -> None:
        for number, start in enumerate(range(0, self.photos, ROWS)):
            rows = range(start, min(start + ROWS, self.photos))
            records = [{"path": f"{i}.jpg", "category": str(i % CATEGORIES)} for i in rows]
            name = f"part-{number:05d}-of-{-(-self.photos // ROWS):05d}.safetensors"
            write_shard(self.folder / "vectors" / name, Shard(vectors[rows.start : rows.stop].numpy(), records, pipeline.encoder_digest()))


def execute(*arguments: str) -> tuple[str, float]:
    """Run one command of sbirlib; its output and its seconds. A failure ends the benchmark."""
    start = time.monotonic()
    process = subprocess.run([SBIRLIB, *arguments], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if process.returncode:
        raise SystemExit(f"sbirlib {' '.join(arguments)}: {process.stderr[-1000:]}")
    return process.stdout, seconds


def execute_and_kill(*arguments: str, after: float) -> None:
    """Start one command of sbirlib and kill it after so many seconds."""
    process = subprocess.Popen([SBIRLIB, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    process.kill()
    process.wait()


def photo_count(index: str) -> int:
    """Number of photos in a saved index."""
    return len(open_index(index).index)


def around(centres: Tensor, count: int) -> Tensor:
    """Unit vectors [count, V], each the noisy copy of a random one of the centres [n, V]."""
    generator = torch.Generator().manual_seed(0)
    rows = centres[torch.randint(len(centres), (count,), generator=generator)]
    rows += NOISE * centres.std(0) * torch.randn(rows.shape, generator=generator)
    return F.normalize(rows, dim=1)


if __name__ == "__main__":
    main()
