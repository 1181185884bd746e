"""Saved indexes of every local kind, and files of encoded photos."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tests.fuzz.targets import world
from tests.fuzz.targets.target import Target

from sbirlib import open_index
from sbirlib.encoding import encode_to, index_encoded
from sbirlib.hits import Hit
from sbirlib.retrieval.indexes.base import read_index
from sbirlib.retrieval.indexes.upgrade import upgrade
from sbirlib.search import SearchIndex
from sbirlib.spec import part
from sbirlib.verification import verify

ROWS, LATER = 290, 20
OLD = Path(__file__).parents[2] / "retrieval/indexes/format3"
KINDS: dict[str, dict[str, Any]] = {
    "flat": {},
    "hnsw": {"M": 4, "efSearch": 8, "efConstruction": 8, "exhaustive": 100},
    "ivfpq": {"M": 2, "nlist": 4, "nprobe": 2, "exhaustive": 256},
    "itq": {"bits": 8, "nlist": 4, "nprobe": 2, "exhaustive": 100},
}
WHERE: dict[str, Any] = {"category": ["cat", "dog"], "new": True}


def make(kind: str, folder: Path) -> None:
    """An index of photos in two shards, of which some are removed."""
    with world.numbered_names():
        search_index = world.pipeline().search_index(part("index", {"name": kind, **KINDS[kind]}))
        search_index.index.add(world.vectors(ROWS), world.described(ROWS))
        search_index.index.add(world.vectors(LATER, 1), world.described(LATER, ROWS))
        search_index.remove(["photos/3.jpg", "photos/7.jpg", "photos/300.jpg"])
        search_index.save(folder)


def answer(folder: Path) -> Any:
    """The hits of a sketch and of vectors, with and without a filter."""
    search_index = open_index(folder)
    return [_rows([search_index.search(world.pictures()[0], 5)]), *_found(search_index), len(search_index)]


def _found(search_index: SearchIndex) -> list[Any]:
    queries = world.vectors(2, 2).unsqueeze(1)
    return [_rows(search_index.search_vectors(queries, 6, where)) for where in (None, WHERE)]


def _rows(hits: Sequence[Sequence[Hit]]) -> list[list[tuple[str, float, str]]]:
    return [[(hit.path, hit.score, repr(hit.record)) for hit in row] for row in hits]


def answer_grown(folder: Path) -> Any:
    """The hits after photos were added and removed, and the index was saved and opened again."""
    search_index = open_index(folder)
    search_index.index.add(world.vectors(12, 5), world.described(12, 900))
    search_index.remove(["photos/11.jpg"])
    with world.numbered_names():
        search_index.save(folder)
    return _found(open_index(folder))


def make_old(kind: str, folder: Path) -> None:
    """An index of the format before this one."""
    shutil.copytree(OLD / kind, folder, dirs_exist_ok=True)


def answer_old(folder: Path) -> Any:
    """The hits of the index in its present format."""
    index = upgrade(folder)
    queries = torch.eye(index.dim)[:3]
    return [index.search(queries, 4)[1].tolist(), read_index(folder).search(queries, 4)[1].tolist(), len(index)]


def answer_verify(folder: Path) -> Any:
    """The state of every file, and of a file alone."""
    return [(finding.path.name, finding.state) for finding in verify(folder)]


def damage_is_found(findings: Any, expected: Any) -> bool:
    return findings == expected or any(state == "damaged" for _, state in findings)


def make_encoded(folder: Path) -> None:
    encode_to(world.encoder(), world.dataset().photos, folder, rows=4, device="cpu", progress=False)


def answer_encoded(folder: Path) -> Any:
    """The hits of an index of the encoded photos; encoding again keeps whole files and makes the others anew."""
    search_index = index_encoded(world.encoder(), folder)
    hits = _rows(search_index.search_vectors(world.vectors(2, 2).unsqueeze(1), 4))
    encode_to(world.encoder(), world.dataset().photos, folder, rows=4, device="cpu", progress=False)
    return [hits, torch.stack([torch.from_numpy(shard_vector(path)) for path in sorted(folder.glob("part-*"))]).sum().item()]


def shard_vector(path: Path) -> Any:
    """The first vector of a file of encoded photos."""
    from sbirlib.retrieval.indexes.shards import read_shard

    return read_shard(path).vectors[0].copy()


def _target(name: str, kind: str, forms: dict[str, str]) -> Target:
    return Target(f"index_{name}", partial(make, kind), answer, forms)


TARGETS = [
    _target("manifest", "flat", {"index.json": "json"}),
    _target("vectors", "flat", {"vectors-*": "safetensors"}),
    _target("model", "flat", {"model-*": "safetensors"}),
    _target("hnsw", "hnsw", {"index.json": "json", "hnsw-*.faiss": "bytes", "hnsw-*.safetensors": "safetensors"}),
    _target("ivfpq", "ivfpq", {"index.json": "json", "ivfpq-*.faiss": "bytes", "ivfpq-*.safetensors": "safetensors"}),
    _target("itq", "itq", {"index.json": "json", "itq-*.safetensors": "safetensors"}),
    *(
        Target(
            f"grown_{kind}",
            partial(make, kind),
            answer_grown,
            {"index.json": "json", f"{kind}-*": "safetensors", "vectors-*": "safetensors"},
        )
        for kind in ("hnsw", "ivfpq", "itq")
    ),
    *(
        Target(f"upgrade_{kind}", partial(make_old, kind), answer_old, {"index.json": "json", "vectors-*": "safetensors"})
        for kind in ("flat", "hnsw")
    ),
    Target("verify", partial(make, "flat"), answer_verify, {"index.json": "json", "*.safetensors": "safetensors"}, agrees=damage_is_found),
    Target("encoded", make_encoded, answer_encoded, {"part-*": "safetensors"}),
]
