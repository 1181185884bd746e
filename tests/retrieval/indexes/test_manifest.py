"""The manifest of an index: lengths, digests, names, formats, and processes that save at once."""

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.retrieval.indexes.photos import described, filled, random, restamp

from sbirlib import sealed
from sbirlib.documents import with_digest
from sbirlib.errors import InputError
from sbirlib.files import locked
from sbirlib.retrieval.indexes import base, manifest
from sbirlib.retrieval.indexes.base import Index, read_index
from sbirlib.retrieval.indexes.flat import Flat
from sbirlib.retrieval.indexes.itq import Itq
from sbirlib.retrieval.indexes.manifest import MANIFEST
from sbirlib.retrieval.indexes.upgrade import upgrade

OLD = Path(__file__).parent / "format3"


def flipped(path: Path, place: int, bit: int = 0) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def change(folder: Path, **entries: Any) -> None:
    """Change the manifest, and write its digest anew."""
    about = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(with_digest({**about, **entries})))


def test_every_flipped_bit_is_named(tmp_path: Path) -> None:
    filled(Itq(bits=8, exhaustive=50, nlist=2), random(100, 8)).save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 200)):
            flipped(path, place, place % 8)
            with pytest.raises(InputError, match=f"{path.name}|kind|format"):
                read_index(tmp_path)
            path.write_bytes(whole)
    assert len(read_index(tmp_path)) == 100


def test_a_large_index_is_verified_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(Flat(), random(100, 8)).save(tmp_path)
    shard = next(tmp_path.glob("vectors-*"))
    flipped(shard, -3)  # of the last vector: safetensors keeps larger types first, so records are behind
    flipped(shard, shard.stat().st_size - 5000)
    flipped(shard, -3)
    monkeypatch.setattr(manifest, "SMALL", 10)
    assert len(read_index(tmp_path)) == 100
    with pytest.raises(InputError, match=f"{shard.name}' is damaged: its content is not that of its digest"):
        read_index(tmp_path, verify=True)
    monkeypatch.undo()
    with pytest.raises(InputError, match=f"{shard.name}' is damaged"):
        read_index(tmp_path)
    assert len(read_index(tmp_path, verify=False)) == 100


def test_a_file_of_another_index_is_refused_though_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(Flat(), random(100, 8)).save(tmp_path / "one")
    filled(Flat(), random(100, 8, seed=1)).save(tmp_path / "other")
    ours, theirs = (next((tmp_path / name).glob("vectors-*")) for name in ("one", "other"))
    shutil.copy(theirs, ours)
    monkeypatch.setattr(manifest, "SMALL", 0)
    with pytest.raises(InputError, match=f"{ours.name}' is damaged: its content is not that of its digest"):
        read_index(tmp_path / "one")


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", "", "a\\b", ".hidden", "x\n", "a" * 300, "c:x"]
)
def test_no_name_in_a_manifest_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    filled(Flat(), random(10, 8)).save(tmp_path / "index")
    about = json.loads((tmp_path / "index" / MANIFEST).read_text())
    (file, entry), *_ = about["files"].items()
    shutil.copy(tmp_path / "index" / file, tmp_path / "x.safetensors")
    for entries in (
        {"files": {name: entry}, "state": {**about["state"], "shards": [name]}},
        {"state": {**about["state"], "shards": [name]}},
        {"model": name},
        {"model": "other.safetensors"},
    ):
        change(tmp_path / "index", **{**about, **entries})
        with pytest.raises(InputError, match="damaged|no file"):
            read_index(tmp_path / "index")
    assert (tmp_path / "x.safetensors").is_file()


def test_a_link_is_not_followed_nor_what_it_leads_to_removed(tmp_path: Path) -> None:
    index = filled(Flat(), random(10, 8))
    index.save(tmp_path / "index")
    shard = next((tmp_path / "index").glob("vectors-*"))
    shard.rename(tmp_path / "elsewhere.safetensors")
    shard.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(InputError, match=f"{shard.name}', which the index needs, or it is a link"):
        read_index(tmp_path / "index")
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "file").touch()
    (tmp_path / "index" / "vectors-00000000.safetensors").symlink_to(folder)
    (tmp_path / "index" / ".vectors-00000000.safetensors.1.abc.partial").symlink_to(folder)
    filled(Flat(), random(3, 8)).save(tmp_path / "index")
    assert (tmp_path / "elsewhere.safetensors").is_file()
    assert (folder / "file").is_file()
    assert len(read_index(tmp_path / "index")) == 3
    assert len(os.listdir(tmp_path / "index")) == 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": "4"}, "format = "),
        ({"format": True}, "format = "),
        ({"kind": "hsnw"}, "unknown index 'hsnw'; did you mean 'hnsw'"),
        ({"kind": 5}, "kind: "),
        ({"more": 1}, "more: "),
        ({"state": []}, "state: "),
        ({"state": {}}, "state .*shards: "),
        ({"state": {"shards": [], "removed": [], "options": {}}}, "state is damaged"),
        ({"files": {}}, "no file|state|damaged"),
        ({"encoder": 1}, "encoder: "),
        ({"xxh3": "0" * 32}, "its content is not that of its digest"),
    ],
)
def test_a_forged_manifest_is_refused(entries: dict[str, Any], message: str, tmp_path: Path) -> None:
    filled(Flat(), random(10, 8)).save(tmp_path)
    about = {**json.loads((tmp_path / MANIFEST).read_text()), **entries}
    (tmp_path / MANIFEST).write_text(json.dumps(about if "xxh3" in entries else with_digest(about)))
    with pytest.raises(InputError, match=message):
        read_index(tmp_path)


@pytest.mark.parametrize("state", [{"removed": [10]}, {"removed": [-1]}, {"removed": [1, 1]}, {"removed": [2**70]}, {"options": {"x": 1}}])
def test_a_forged_state_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    filled(Flat(), random(10, 8)).save(tmp_path)
    about = json.loads((tmp_path / MANIFEST).read_text())
    change(tmp_path, state={**about["state"], **state})
    with pytest.raises(InputError, match=MANIFEST):
        read_index(tmp_path)


def test_a_photo_that_is_in_two_shards_is_named_when_paths_are_read(tmp_path: Path) -> None:
    filled(Flat(), random(10, 8)).save(tmp_path)
    about = json.loads((tmp_path / MANIFEST).read_text())
    (file,) = about["state"]["shards"]
    change(tmp_path, state={**about["state"], "shards": [file, file]})
    with pytest.raises(InputError, match="it names a file twice"):
        read_index(tmp_path)
    shutil.copy(tmp_path / file, tmp_path / "vectors-00000000.safetensors")
    entries = {"files": {**about["files"], "vectors-00000000.safetensors": about["files"][file]}}
    change(tmp_path, state={**about["state"], "shards": [file, "vectors-00000000.safetensors"]}, **entries)
    with pytest.raises(InputError, match="name 10 photos, and it has 20"):
        read_index(tmp_path).paths()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq", "itq"])
def test_an_index_of_the_earlier_format_is_rewritten_by_a_command(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(OLD / kind, folder)
    count = 300 if kind == "ivfpq" else 150
    with pytest.raises(InputError, match=f"by an earlier version of sbirlib: `sbirlib upgrade {folder}` rewrites it"):
        read_index(folder)
    before = upgrade(folder)
    index = read_index(folder)
    assert len(index) == count - 2
    reference: Index = type(index)(**before.options())  # type: ignore[attr-defined]
    reference.add(random(count, 8), described(count))
    reference.remove(["3.jpg", "7.jpg"])
    for one, other in zip(index.search(random(20, 8, seed=1), 5), reference.search(random(20, 8, seed=1), 5), strict=True):
        assert torch.equal(one, other)
    assert index.records(torch.tensor([0, 149]))[1]["path"] == "149.jpg"
    assert not list(folder.glob("*.faiss"))
    with pytest.raises(InputError, match="nothing to rewrite"):
        upgrade(folder)
    with pytest.raises(InputError, match="is not an index"):
        upgrade(tmp_path)


def test_an_upgrade_that_fails_leaves_the_former_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "index"
    shutil.copytree(OLD / "hnsw", folder)

    def full(*_: object, **__: object) -> None:
        raise InputError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(base, "write_manifest", full)
        with pytest.raises(InputError, match="no room"):
            upgrade(folder)
    assert len(upgrade(folder)) == 148


def add_at_once(folder: Path, start: Any, photos: range, answers: Any) -> None:
    index = read_index(folder)
    index.add(random(len(photos), 8, seed=photos.start), described(len(photos), photos.start))
    start.wait()
    try:
        index.save(folder)
        answers.put("saved")
    except InputError as error:
        answers.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_of_two_processes_that_add_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        filled(Flat(), random(10, 8)).save(folder)
        start, answers = context.Barrier(2), context.Queue()
        adders = [context.Process(target=add_at_once, args=(folder, start, range(n, n + 500), answers)) for n in (100, 1000)]
        for adder in adders:
            adder.start()
        told = sorted(answers.get(timeout=60) for _ in adders)
        for adder in adders:
            adder.join()
        assert told[1] == "saved"
        assert "was changed by another process since it was opened here: open it again and repeat the change" in told[0]
        index = read_index(folder, verify=True)
        assert len(index) == 510
        assert len(set(index.paths())) == 510
        assert len(os.listdir(folder)) == len(json.loads((folder / MANIFEST).read_text())["files"]) + 1


def test_a_save_waits_while_another_holds_the_folder_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="sbirlib")
    index = filled(Flat(), random(10, 8))
    index.save(tmp_path)
    with locked(tmp_path):
        saver = threading.Thread(target=lambda: filled(index, random(1, 8)).save(tmp_path))
        saver.start()
        saver.join(0.3)
        assert saver.is_alive()
    saver.join(30)
    assert f"waiting for another process, which saves into {tmp_path}" in caplog.text
    assert len(read_index(tmp_path)) == 11


def test_a_folder_that_cannot_be_locked_is_saved_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    filled(Flat(), random(10, 8)).save(tmp_path)
    assert len(read_index(tmp_path)) == 10


def test_an_index_without_write_permission_is_searched(tmp_path: Path) -> None:
    filled(Flat(), random(10, 8)).save(tmp_path)
    restamp(tmp_path)
    os.chmod(tmp_path, 0o555)
    try:
        assert len(read_index(tmp_path, verify=True)) == 10
    finally:
        os.chmod(tmp_path, 0o755)


def test_an_index_is_opened_while_another_process_saves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(Flat(), random(10, 8))
    index.save(tmp_path)
    check = manifest.check_files

    def check_late(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        filled(index, random(10, 8)).save(tmp_path)  # merges the two shards into a new file, and removes the former
        check(*arguments, **options)

    monkeypatch.setattr(base, "check_files", check_late)
    assert len(read_index(tmp_path)) == 20


@pytest.mark.parametrize("way", ["a join", "another folder", "a structure"])
def test_damage_is_not_copied_into_a_file_with_a_digest_of_its_own(way: str, tmp_path: Path) -> None:
    index: Index = Itq(bits=8, exhaustive=120, nlist=2) if way == "a structure" else Flat()
    filled(index, random(100, 8)).save(tmp_path / "index")
    shard = next((tmp_path / "index").glob("vectors-*"))
    flipped(shard, place_of_vectors(shard))
    opened = read_index(tmp_path / "index", verify=False)
    change: Callable[[], object] = (
        (lambda: opened.save(tmp_path / "other")) if way == "another folder" else (lambda: filled(opened, random(60, 8)))
    )
    with pytest.raises(InputError, match=f"{shard.name}' is damaged"):
        change()
    assert not list(tmp_path.glob("other/index.json"))


def place_of_vectors(shard: Path) -> int:
    """The place of the first vector in a shard."""
    content = shard.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return 8 + size + int(json.loads(content[8 : 8 + size])["vectors"]["data_offsets"][0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("kind", ["flat", "itq"])
def test_vectors_that_cannot_be_ranked_are_named(kind: str, value: float, tmp_path: Path) -> None:
    index: Index = Itq(bits=8, exhaustive=50, nlist=1) if kind == "itq" else Flat()
    filled(index, random(100, 8)).save(tmp_path)
    shard = next(tmp_path.glob("vectors-*"))
    tensors, text = sealed.read(shard)
    tensors["vectors"][:] = value
    sealed.write(shard, tensors, {name: entry for name, entry in json.loads(text).items() if name != "xxh3"})
    restamp(tmp_path)
    with pytest.raises(InputError, match="hold NaN, infinity or numbers near it|NaN or infinity"):
        read_index(tmp_path).search(torch.ones(1, 8), 3)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("fault", ["a link", "a model that is none", "NaN", "a file twice"])
def test_a_forged_index_of_the_earlier_format_is_not_rewritten(kind: str, fault: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(OLD / kind, folder)
    about = json.loads((folder / MANIFEST).read_text())
    shard = folder / about["state"]["shards"][0]
    if fault == "a link":
        shard.rename(tmp_path / "elsewhere")
        shard.symlink_to(tmp_path / "elsewhere")
    elif fault == "a model that is none":
        about.update(model=shard.name, encoder="x")
    elif fault == "NaN":
        tensors, _ = sealed.read(shard)
        tensors["vectors"][0] = float("nan")
        save_file(tensors, shard, metadata={"encoder": ""})
    else:
        about["state"]["shards"] *= 2
    (folder / MANIFEST).write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"is a link|holds no recipe|is damaged"):
        upgrade(folder)
    assert json.loads((folder / MANIFEST).read_text())["format"] == 3
