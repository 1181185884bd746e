"""The index against a sort of all scores."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.retrieval.flat import FILE, Flat


def brute_force(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    scores = (queries @ gallery.T).amax(1)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.gather(1, order), order


def filled(vectors: Tensor) -> Flat:
    index = Flat()
    index.add(vectors)
    return index


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("k", [1, 7, 60, 150, 500])
def test_finds_the_best_in_gallery_order_at_ties(draws: int, k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    gallery = torch.randint(-1, 2, (300, 4), generator=generator).float()  # few distinct scores: many ties, many across the cut
    queries = torch.randint(-1, 2, (25, draws, 4), generator=generator).float()
    scores, rows = filled(gallery).search(queries, k)
    wanted_scores, wanted_rows = brute_force(queries, gallery, k)
    assert torch.equal(scores, wanted_scores)
    assert torch.equal(rows, wanted_rows)


def test_real_valued_vectors_one_query_or_many_and_photos_added_later() -> None:
    generator = torch.Generator().manual_seed(0)
    gallery, queries = torch.randn(200, 16, generator=generator), torch.randn(30, 16, generator=generator)
    index = filled(gallery[:150])
    index.add(gallery[150:])
    assert len(index) == 200
    scores, rows = index.search(queries, 10)
    wanted_scores, wanted_rows = brute_force(queries[:, None], gallery, 10)
    assert torch.equal(rows, wanted_rows)
    assert torch.allclose(scores, wanted_scores, atol=1e-6)
    assert torch.equal(index.search(queries[:1], 10)[1], wanted_rows[:1])


def test_comes_back_from_its_folder(tmp_path: Path) -> None:
    index, queries = filled(torch.randn(20, 5)), torch.randn(3, 2, 5)
    index.save(tmp_path / "new" / "index")
    scores, rows = Flat.open(tmp_path / "new" / "index").search(queries, 4)
    assert torch.equal(scores, index.search(queries, 4)[0])
    assert torch.equal(rows, index.search(queries, 4)[1])
    assert os.listdir(tmp_path / "new" / "index") == [FILE]


def test_a_failed_save_leaves_the_former_index_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(torch.ones(2, 3)).save(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"could not be written .No space left on device.; what stood there before is untouched"):
        filled(torch.ones(9, 3)).save(tmp_path)
    assert len(Flat.open(tmp_path)) == 2
    assert os.listdir(tmp_path) == [FILE]


def test_a_damaged_or_missing_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no index in"):
        Flat.open(tmp_path)
    filled(torch.randn(50, 8)).save(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:4], b"", whole.replace(b"vectors", b"vectorz", 1)):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged or not an index"):
            Flat.open(tmp_path)


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        filled(torch.ones(1, 2)).save(tmp_path / "file" / "index")


def test_bad_input_is_refused(tmp_path: Path) -> None:
    index = filled(torch.ones(3, 4))
    for queries, k, said in [
        (torch.ones(1, 4), 0, "at least 1, got 0"),
        (torch.ones(1, 5), 1, "holds vectors of 4 numbers, got 5"),
        (torch.ones(4), 1, r"\[Q, S, V\] or \[Q, V\] were expected, got \[4\]"),
        (torch.ones(0, 4), 1, "were expected, got"),
        (torch.full((1, 4), torch.nan), 1, "NaN or infinity"),
    ]:
        with pytest.raises(InputError, match=said):
            index.search(queries, k)
    for vectors, said in [
        (torch.ones(2, 5), "holds vectors of 4 numbers"),
        (torch.ones(0, 4), "at least one photo"),
        (torch.ones(2, 1, 4), "were expected"),
    ]:
        with pytest.raises(InputError, match=said):
            index.add(vectors)
    with pytest.raises(InputError, match="the index is empty: add photos before searching"):
        Flat().search(torch.ones(1, 4), 1)
    with pytest.raises(InputError, match="the index is empty"):
        Flat().save(tmp_path)
