from pathlib import Path

import pytest
import torch

from sbirlib import load
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib.pipeline import Pipeline
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.testing.world import separable
from sbirlib_vtd.word_file import forms, read_words
from sbirlib_vtd.word_vectors import WordVectors

FILE = "cat 3 0 4\nwine 1 0 0\nbottle 0 1 0\nhot-dog 0 0 2\nsea_turtle 1 1 1\nthe . 5 5 5\n"


def words_of(folder: Path, text: str = FILE) -> str:
    path = folder / "words.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def step(embedding: torch.Tensor, category: torch.Tensor) -> Step:
    batch = Batch(torch.empty(len(category), 3, 0, 0), torch.zeros_like(category), category, category)
    return Step(Features.of(batch, embedding), encoder=Encoder(), batch=batch)


def test_a_name_is_looked_up_in_several_forms(tmp_path: Path) -> None:
    assert forms("Sea turtle") == ["Sea turtle", "sea turtle", "sea_turtle", "sea-turtle"]
    rows = read_words(words_of(tmp_path), ["Cat", "wine_bottle", "hot dog", "sea turtle", "the ."])
    expected = [[3, 0, 4], [0.5, 0.5, 0], [0, 0, 2], [1, 1, 1], [5, 5, 5]]
    assert rows.tolist() == expected


@pytest.mark.parametrize("first", ["6 3\n", "6 3 \r\n", ""], ids=["word2vec", "spaces", "GloVe"])
def test_a_first_line_of_counts_is_no_word(tmp_path: Path, first: str) -> None:
    assert read_words(words_of(tmp_path, first + FILE), ["cat"]).tolist() == [[3, 0, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1 2\ndog 1\n", r"line 2: a word and 2 numbers were expected"),
        ("cat\n", r"line 1: a word and 1 numbers were expected"),
        ("cat 1 two\n", r"line 1: could not convert string to float: 'two': expected a word and 2 numbers"),
        ("cat 0 0\n", r"line 1: the vector is zero or not finite"),
        ("cat 1 nan\n", r"line 1: the vector is zero or not finite"),
        ("dog 1 2\n", r"has no vector of 1 of 1 names: cat; give in their places words that it has"),
        ("", r"has no vector of 1 of 1 names: cat"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_words(words_of(tmp_path, text), ["cat"])


@pytest.mark.parametrize("path", ["nowhere.txt", "nul\0.txt"])
def test_a_file_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(InputError, match="cannot be read as word vectors"):
        read_words(path, ["cat"])


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"cat 1 2\n\xff\xfe 3 4\n")
    with pytest.raises(InputError, match="cannot be read as word vectors"):
        read_words(str(tmp_path / "words.txt"), ["cat", "dog"])


def test_the_loss_is_the_mean_squared_distance_from_the_unit_word_vector(tmp_path: Path) -> None:
    loss = WordVectors(dim=3, categories=2, vectors=words_of(tmp_path), words=["cat", "wine bottle"])
    loss.load_weights()
    embedding = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    category = torch.tensor([0, 1, 1, 0])
    unit = {0: [0.6, 0.0, 0.8], 1: [0.5**0.5, 0.5**0.5, 0.0]}
    expected = (
        sum(
            sum((float(z) - v) ** 2 for z, v in zip(row, unit[c], strict=True))
            for row, c in zip(embedding.detach(), category.tolist(), strict=True)
        )
        / 4
    )
    value = loss(step(embedding, category))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-6)
    value.backward()
    gradient = torch.tensor(
        [
            [2 * (float(z) - v) / 4 for z, v in zip(row, unit[c], strict=True)]
            for row, c in zip(embedding.detach(), category.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(embedding.grad, gradient.double(), rtol=1e-6, atol=1e-6)
    empty = loss(step(embedding[:0], category[:0]))
    assert float(empty.detach()) == 0
    assert empty.requires_grad


def test_bad_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="word_vectors has no word vectors: name their file"):
        WordVectors(dim=3, categories=2).load_weights()
    with pytest.raises(InputError, match="has 1 words, and there are 2 training categories: list the word of each"):
        WordVectors(dim=3, categories=2, vectors=words_of(tmp_path), words=["cat"]).load_weights()
    with pytest.raises(InputError, match="vectors of 3 numbers, and the embedding has 5: set the descriptor's dim to 3"):
        WordVectors(dim=5, categories=1, vectors=words_of(tmp_path), words=["cat"]).load_weights()
    loss = WordVectors(dim=3, categories=1, vectors=words_of(tmp_path), words=["cat"])
    with pytest.raises(InputError, match="categories 1 to 1 were given"):
        loss(step(torch.randn(1, 3), torch.tensor([1])))


def trained(folder: Path) -> Pipeline:
    text = "".join(f"direction{i} " + " ".join(str((i + 2) * (j + 1) % 7 + 1) for j in range(16)) + "\n" for i in range(3))
    options = {"losses.word_vectors.vectors": words_of(folder, text), "losses.word_vectors.words": [f"direction{i}" for i in range(3)]}
    pipeline = small(Subject("recipe", "vtd-words", options=options), steps=2)
    return pipeline.fit(separable(categories=3, instances=4), device="cpu", progress=False, tensorboard=False)


def test_a_saved_model_needs_no_file(tmp_path: Path) -> None:
    pipeline = trained(tmp_path)
    pipeline.save(tmp_path / "model.safetensors")
    (tmp_path / "words.txt").unlink()
    again = load(tmp_path / "model.safetensors")
    again.model.load_weights()
    table = again.losses["word_vectors"].table
    assert torch.equal(table, pipeline.losses["word_vectors"].table)  # type: ignore[arg-type]
    torch.testing.assert_close(table.norm(dim=1), torch.ones(3))  # type: ignore[operator]


def test_training_without_a_file_says_so() -> None:
    with pytest.raises(InputError, match=r"--set losses.word_vectors.vectors=FILE"):
        small(Subject("recipe", "vtd-words"), steps=1).fit(
            separable(categories=3, instances=4), device="cpu", progress=False, tensorboard=False
        )
