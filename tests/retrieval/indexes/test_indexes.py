"""The interface of every index, against a sort of all scores."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.retrieval.indexes.photos import described, filled, random
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.indexes import local
from sbirlib.retrieval.indexes.base import Index, Where, read_index
from sbirlib.retrieval.indexes.flat import Flat
from sbirlib.retrieval.indexes.hnsw import Hnsw
from sbirlib.retrieval.indexes.itq import Itq
from sbirlib.retrieval.indexes.ivfpq import IvfPq
from sbirlib.retrieval.indexes.manifest import MANIFEST

KINDS: dict[str, Callable[[], Index]] = {
    "flat": Flat,
    "hnsw": lambda: Hnsw(exhaustive=100, efSearch=300),
    "ivfpq": lambda: IvfPq(exhaustive=256, nlist=4, nprobe=4, M=1, rerank=100),
    "itq": lambda: Itq(exhaustive=100, nlist=4, nprobe=4, bits=8, rerank=100),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def brute_force(queries: Tensor, gallery: Tensor, k: int, rows: list[int] | None = None) -> tuple[Tensor, Tensor]:
    candidates = torch.arange(len(gallery)) if rows is None else torch.tensor(rows)
    scores = (queries @ gallery[candidates].T).amax(1)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.gather(1, order), candidates[order]


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("k", [1, 7, 60, 150, 500])
def test_flat_finds_the_best_in_order_of_adding_at_ties(draws: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "ROWS", 128)
    generator = torch.Generator().manual_seed(k)
    gallery = torch.randint(-1, 2, (300, 4), generator=generator).float()  # few distinct scores: many ties, many across the cut
    queries = torch.randint(-1, 2, (25, draws, 4), generator=generator).float()
    index = filled(Flat(), gallery)
    for some in (None, [i for i in range(300) if i % 3 == 1], [i for i in range(300) if i % 3 and i % 7 != 3]):
        where: Where | None = (
            None
            if some is None
            else {"category": "c1"}
            if len(some) == 100
            else {"category": ["c1", "c2"], "year": [2000, 2001, 2002, 2004, 2005, 2006]}
        )
        scores, ids = index.search(queries, k, where)
        wanted_scores, wanted_ids = brute_force(queries, gallery, k, some)
        assert torch.equal(scores, wanted_scores)
        assert torch.equal(ids, wanted_ids)


@every_kind
def test_photos_are_found_filtered_removed_and_added(kind: str, tmp_path: Path) -> None:
    gallery, queries = random(400, 16), random(20, 3, 16, seed=1)
    index = filled(filled(KINDS[kind](), gallery[:250]), gallery[250:])
    assert len(index) == 400
    assert index.dim == 16

    def same_as_brute_force(index: Index, rows: list[int], where: dict[str, list[str]] | None = None) -> None:
        scores, ids = index.search(queries, 5, where)
        wanted_scores, wanted_ids = brute_force(queries, gallery, 5, rows)
        assert torch.equal(ids, wanted_ids)
        assert torch.allclose(scores, wanted_scores, atol=1e-5)

    same_as_brute_force(index, list(range(400)))
    same_as_brute_force(index, [i for i in range(400) if i % 3 != 2], {"category": ["c0", "c1"]})
    best = index.search(queries, 1)[1].flatten().unique()
    gone = set(best.tolist())
    index.remove([str(r["path"]) for r in index.records(best)])
    assert len(index) == 400 - len(gone)
    left = [i for i in range(400) if i not in gone]
    same_as_brute_force(index, left)
    index.save(tmp_path)
    opened = read_index(tmp_path)
    assert type(opened) is type(index)
    same_as_brute_force(opened, left)
    assert opened.paths() == index.paths()
    gallery = torch.cat([gallery, queries[:, 0]])  # a removed path may come back, under a new id
    opened.add(queries[:, 0], [{"path": f"{sorted(gone)[0]}.jpg"}, *described(19, 1000)])
    same_as_brute_force(opened, [*left, *range(400, 420)])
    opened.save(tmp_path)
    same_as_brute_force(read_index(tmp_path), [*left, *range(400, 420)])


@every_kind
def test_a_filter_that_leaves_little_or_nothing(kind: str) -> None:
    gallery, queries = random(300, 16), random(4, 16, seed=1)
    index = filled(KINDS[kind](), gallery)
    assert index.search(queries, 5, {"category": "c1", "path": "4.jpg"})[1].tolist() == [[4]] * 4
    assert index.search(queries, 5, {"category": "owl"})[1].shape == (4, 0)
    index.add(random(1, 16), [{"path": "new.jpg", "album": None}])
    assert index.search(queries, 5, {"album": None})[1].tolist() == [[300]] * 4  # a photo without the field is not one with nothing in it


@every_kind
def test_what_is_saved_again_is_only_what_is_new(kind: str, tmp_path: Path) -> None:
    index = filled(KINDS[kind](), random(300, 16))
    index.save(tmp_path)
    shard = next(name for name in os.listdir(tmp_path) if name.startswith("vectors"))
    filled(index, random(1, 16)).save(tmp_path)
    assert shard in os.listdir(tmp_path)
    files = json.loads((tmp_path / MANIFEST).read_text())["files"]
    assert sorted([*files, MANIFEST]) == sorted(os.listdir(tmp_path))


def test_photos_that_come_one_by_one_share_few_files(tmp_path: Path) -> None:
    gallery = random(100, 4)
    index: Index = Flat()
    for i in range(100):
        index.add(gallery[i : i + 1], described(1, i))
        index.save(tmp_path)
    assert len(os.listdir(tmp_path)) <= 8
    assert torch.equal(read_index(tmp_path).search(gallery, 3)[1], brute_force(gallery[:, None], gallery, 3)[1])


def test_a_failed_save_leaves_the_former_index_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(Flat(), torch.ones(2, 3)).save(tmp_path)
    before = sorted(os.listdir(tmp_path))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"could not be written .No space left on device.; what stood there before is untouched"):
            filled(Flat(), torch.ones(9, 3)).save(tmp_path)
    assert len(read_index(tmp_path)) == 2
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("kind", ["flat", "itq"])
def test_a_save_that_failed_succeeds_when_there_is_room(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.fsync
    for allowed in range(3):
        index, saved = filled(KINDS[kind](), random(300, 16)), 0

        def full_after_some(file: int, allowed: int = allowed) -> None:
            nonlocal saved
            saved += 1
            if saved > allowed:
                raise OSError(28, "No space left on device")
            whole(file)

        monkeypatch.setattr(os, "fsync", full_after_some)
        with suppress(InputError):
            index.save(tmp_path / str(allowed))
        monkeypatch.setattr(os, "fsync", whole)
        index.save(tmp_path / str(allowed))
        assert len(read_index(tmp_path / str(allowed))) == 300


def test_codes_longer_than_the_vectors_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="vectors of 16 numbers make codes of as many bits at most, got bits=64"):
        filled(Itq(bits=64), random(2, 16))


def test_codes_that_pass_a_filter_are_found_however_many_do_not() -> None:
    """The nearest half is not allowed, so that more must be asked for than once; a literal comparison of all codes is the reference."""
    index = Itq(exhaustive=100, nlist=4, nprobe=4, bits=16)
    filled(index, random(300, 16))
    queries = random(5, 16, seed=1).numpy()
    codes, query_codes = (np.unpackbits(index.structure.codes(rows), axis=1).astype(int) for rows in (random(300, 16).numpy(), queries))
    distances = (codes[None] != query_codes[:, None]).sum(2)
    allowed = distances[0] >= np.median(distances[0])
    nearest = index.structure.nearest(queries, 20, allowed, 4)
    assert allowed[nearest].all()
    for own, rows in zip(distances, nearest, strict=True):
        assert sorted(own[rows]) == sorted(own[allowed])[:20]
    few = index.structure.nearest(queries, 299, np.arange(300) != 0, 1)
    assert (few[:, -1] == -1).all()
    assert all(len(set(row)) == len(row) for row in (some[some >= 0].tolist() for some in few))


def grow(folder: Path, writer: Any) -> None:
    index: Index = Flat()
    for i in range(10_000):
        filled(index, random(40, 8, seed=i)).save(folder)
        os.write(writer, b".")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_leaves_the_last_completed_save(tmp_path: Path) -> None:
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        reader, writer = os.pipe()
        child = multiprocessing.get_context("fork").Process(target=grow, args=(folder, writer))
        child.start()
        os.close(writer)
        os.read(reader, 1)
        time.sleep(0.05 * attempt)
        child.kill()
        child.join()
        saves = 1
        while more := os.read(reader, 4096):
            saves += len(more)
        os.close(reader)
        opened = read_index(folder)
        assert len(opened) in (40 * saves, 40 * (saves + 1))
        assert torch.allclose(
            opened.search(random(1, 8), 1)[0], (torch.cat([random(40, 8, seed=i) for i in range(len(opened) // 40)]) @ random(1, 8).T).max()
        )
        filled(opened, random(1, 8, seed=9)).save(folder)
        files = json.loads((folder / MANIFEST).read_text())["files"]
        assert sorted([*files, MANIFEST]) == sorted(os.listdir(folder))


def test_two_processes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    filled(Flat(), torch.ones(2, 3)).save(tmp_path)
    one, other = read_index(tmp_path), read_index(tmp_path)
    filled(one, torch.ones(1, 3)).save(tmp_path)
    with pytest.raises(InputError, match="changed by another process"):
        filled(other, torch.ones(4, 3)).save(tmp_path)
    assert len(read_index(tmp_path)) == 3


@every_kind
def test_damage_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not an index"):
        read_index(tmp_path)
    filled(KINDS[kind](), random(300, 16)).save(tmp_path)
    for name in os.listdir(tmp_path):
        whole = (tmp_path / name).read_bytes()
        for damaged in (whole[: len(whole) // 2], whole[:4], b""):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(InputError, match=f"{name}.*(is damaged|is not valid JSON)"):
                read_index(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=r"is not an index|no file"):
            read_index(tmp_path)
        (tmp_path / name).write_bytes(whole)
    assert len(read_index(tmp_path)) == 300
    (tmp_path / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(InputError, match="format 1"):
        read_index(tmp_path)
    (tmp_path / MANIFEST).write_text('{"format": 2, "kind": "hnsw", "state": {"options": {"breadth": 128}}}')
    with pytest.raises(InputError, match="format 2, this version of sbirlib reads 4: index the photos again"):
        read_index(tmp_path)
    (tmp_path / MANIFEST).write_text('{"format": 5, "kind": "future"}')
    with pytest.raises(InputError, match="by a newer version of sbirlib; this one reads 4: upgrade sbirlib"):
        read_index(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(InputError, match="is there and is not an index"):
        filled(Flat(), torch.ones(1, 2)).save(tmp_path)
    with pytest.raises(InputError, match="choose a folder where you may write"):
        filled(Flat(), torch.ones(1, 2)).save(tmp_path / "model.safetensors" / "index")
    assert (tmp_path / "model.safetensors").read_text() == "mine"


@every_kind
def test_bad_input_is_refused_and_changes_nothing(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the index is empty: add photos before searching"):
        KINDS[kind]().search(torch.ones(1, 16), 1)
    with pytest.raises(InputError, match="the index is empty"):
        KINDS[kind]().save(tmp_path)
    index = filled(KINDS[kind](), random(300, 16))
    for queries, k, message in [
        (torch.ones(1, 16), 0, "at least 1, got 0"),
        (torch.ones(1, 5), 1, "holds vectors of 16 numbers, got 5"),
        (torch.ones(16), 1, r"were expected, at least one, got \[16\]"),
        (torch.ones(0, 16), 1, "were expected"),
        (torch.full((1, 16), torch.nan), 1, "NaN or infinity"),
    ]:
        with pytest.raises(InputError, match=message):
            index.search(queries, k)
    with pytest.raises(InputError, match="no photo here has a field 'categry'; did you mean 'category'"):
        index.search(torch.ones(1, 16), 1, {"categry": "c0"})
    for vectors, records, message in [
        (torch.ones(2, 5), described(2, 900), "holds vectors of 16 numbers"),
        (torch.ones(0, 16), [], "at least one"),
        (torch.ones(2, 16), described(1, 900), "2 vectors need as many records, got 1"),
        (torch.ones(2, 16), described(1, 900) * 2, "'900.jpg' is in the index already"),
        (torch.ones(1, 16), described(1, 5), "'5.jpg' is in the index already"),
        (torch.ones(1, 16), [{"category": "cat"}], "a record needs a 'path'"),
        (torch.ones(1, 16), [{"path": "x.jpg", "tags": ["a"]}], "field 'tags' of 'x.jpg' is a list"),
    ]:
        with pytest.raises(InputError, match=message):
            index.add(vectors, records)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'x.jpg' is not in the index"):
        index.remove(["0.jpg", "x.jpg"])
    assert len(index) == 300


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq", "itq"])
def test_few_photos_are_compared_one_by_one_and_many_by_the_structure(kind: str) -> None:
    index = KINDS[kind]()
    assert isinstance(index, Hnsw | IvfPq | Itq)
    filled(index, random(index.exhaustive - 1, 16))
    assert index.structure is None
    filled(index, random(1, 16, seed=2))
    assert index.structure is not None
    assert index.shortlist(random(2, 16).numpy(), 3, None) is not None
    assert index.shortlist(random(2, 16).numpy(), 3, np.arange(index.exhaustive) < 50) is None


def test_options_come_back(tmp_path: Path) -> None:
    filled(IvfPq(nlist=3, nprobe=2, M=1, exhaustive=260), random(300, 16)).save(tmp_path)
    opened = read_index(tmp_path)
    assert isinstance(opened, IvfPq)
    assert opened.options() == {"nlist": 3, "nprobe": 2, "M": 1, "rerank": 10, "exhaustive": 260}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Itq(bits=12), "whole bytes"),
        (lambda: Itq(nlist=0), "Itq: nlist = 0: expected a whole number of at least 1 and of at most 1000000, or none"),
        (lambda: Itq(nlist=300, exhaustive=200), "nlist=300 lists need as many photos for training, got exhaustive=200"),
        (lambda: IvfPq(nlist=300, exhaustive=260), "nlist=300 lists need as many photos"),
        (lambda: IvfPq(nprobe=0), "IvfPq: nprobe = 0: expected a whole number of at least 1"),
        (lambda: IvfPq(exhaustive=100), "exhaustive = 100: expected a whole number of at least 256"),
        (lambda: Hnsw(M=1), "Hnsw: M = 1: expected a whole number of at least 2"),
        (lambda: Hnsw(rerank=0), "Hnsw: rerank = 0: expected a whole number of at least 1"),
    ],
)
def test_bad_options_are_refused(make: Callable[[], Index], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
