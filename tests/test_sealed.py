"""Sealed files: the digest in place, files without one, and every damage named."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors.torch import save_file

from sbirlib import sealed
from sbirlib.errors import InputError
from sbirlib.verification import verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "x.safetensors"
    sealed.write(file, {"a": torch.arange(100.0), "b": torch.ones(3, 2)}, {"name": 'ü "xxh3":"0"', "xs": [1, {"xxh3": 2}]})
    return file


def test_the_digest_is_of_the_whole_file_with_zeros_in_its_place(path: Path) -> None:
    content, stamp = path.read_bytes(), sealed.stamp(path)
    assert content[stamp.place : stamp.place + 32].decode() == stamp.xxh3
    zeros = content[: stamp.place] + b"0" * 32 + content[stamp.place + 32 :]
    assert xxhash.xxh3_128_hexdigest(zeros) == stamp.xxh3 == sealed.digest(path, stamp.place)
    assert stamp.bytes == len(content)
    tensors, text = sealed.read(path)
    assert torch.equal(tensors["a"], torch.arange(100.0))
    assert '"name"' in text


def test_equal_content_makes_equal_files(path: Path, tmp_path: Path) -> None:
    tensors, _ = sealed.read(path)
    sealed.write(tmp_path / "again", tensors, {"name": 'ü "xxh3":"0"', "xs": [1, {"xxh3": 2}]})
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_every_flipped_bit_is_named(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(InputError, match="x.safetensors"):
            sealed.read(path)
    for length in (0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="x.safetensors"):
            sealed.read(path)


def replace(path: Path) -> None:
    for i in range(200):
        sealed.write(path, {"a": torch.full((5_000,), float(i))}, {"i": i})


def test_a_file_that_is_replaced_while_it_is_read_is_read_whole(path: Path) -> None:
    """Rank 0 writes the best weights of a run again while another process reads them."""
    with ThreadPoolExecutor(1) as pool:
        writes = pool.submit(replace, path)
        reads = 0
        while not writes.done():
            tensors, text = sealed.read(path)
            number = json.loads(text).get("i")
            assert number is None or torch.equal(tensors["a"], torch.full((5_000,), float(number)))
            reads += 1
    assert reads > 5


def test_a_file_without_a_digest_is_read_and_said(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "old.safetensors", metadata={"sbirlib": "{}"})
    assert sealed.read(tmp_path / "old.safetensors")[1] == "{}"
    assert [(f.path.name, f.state) for f in verify(tmp_path)] == [("old.safetensors", "no digest")]


@pytest.mark.parametrize("text", ['{"a": 1, "xxh3": "0"}', '{ "xxh3":"00"}', '{"xxh3": "00"}'])
def test_a_digest_in_another_place_is_refused(text: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors", metadata={"sbirlib": text})
    with pytest.raises(InputError, match="is damaged"):
        sealed.read(tmp_path / "x.safetensors")
    assert verify(tmp_path)[0].state == "damaged"


def test_verification_names_the_damaged_of_many(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        sealed.write(tmp_path / f"{name}.safetensors", {"x": torch.ones(1000)}, {})
    content = (tmp_path / "b.safetensors").read_bytes()
    (tmp_path / "b.safetensors").write_bytes(content[:-1] + b"\x01")
    assert [f.state for f in verify(tmp_path)] == ["whole", "damaged", "whole"]
    assert verify(tmp_path / "a.safetensors")[0].state == "whole"
    (tmp_path / "c.safetensors").write_bytes(b"")
    assert "c.safetensors" in verify(tmp_path)[2].cause
    with pytest.raises(InputError, match="does not exist"):
        verify(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="nothing to verify"):
        verify(tmp_path / "notes.txt")
