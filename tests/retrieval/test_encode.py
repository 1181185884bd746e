"""Encoding: order, modes, labels and errors."""

import sys
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Classifier, Encoder, Features, Step
from sbirlib.retrieval.encode import encode


class Plain:
    """A transform that only resizes, and darkens sketches so that the modality shows."""

    size = 4

    def prepare(self, image: Any, modality: int) -> Tensor:
        values = torch.tensor(list(image.resize((4, 4)).tobytes()), dtype=torch.uint8)
        return values.reshape(4, 4, 3).permute(2, 0, 1) // (2 if modality == 0 else 1)

    def augment(self, image: Tensor, modality: int) -> Tensor:
        raise AssertionError("encoding must not augment")


class Small(Encoder):
    dim = vector_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.project = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(48, 6)
        self.norm.eval()  # as a rule that freezes it would leave it

    def forward(self, batch: Batch) -> Features:
        return Features.of(batch, self.project(self.drop(self.norm(batch.images).flatten(1))))

    def query_vectors(self, batch: Batch) -> Tensor:
        vectors = self.gallery_vectors(batch).double()
        return torch.stack([vectors, -vectors], 1)


class Head(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))

    def forward(self, step: Step) -> Tensor:
        raise NotImplementedError

    def logits(self, features: Features) -> Tensor:
        scores: Tensor = self.head(features.vector)
        return scores


def pictures(count: int) -> Dataset:
    return Dataset.of(
        "pictures",
        categories=("a", "b", "c"),
        modality=[i % 2 for i in range(count)],
        category=[i % 3 for i in range(count)],
        instance=[i // 2 for i in range(count)],
        keys=[f"{i}.png" for i in range(count)],
        reader=lambda i: Image.new("RGB", (5, 7), (20 * i % 256, 90, 255 - 10 * i)),
    )


@pytest.fixture
def encoder() -> Small:
    torch.manual_seed(0)
    return Small()


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_row_i_is_image_i_whatever_the_batch(encoder: Small, side: Any) -> None:
    dataset = pictures(11)
    whole = encode(encoder, dataset, Plain(), side=side, batch_size=4)
    assert whole.vectors.shape == ((11, 2, 6) if side == "query" else (11, 6))
    assert (whole.vectors.dtype, whole.logits) == (torch.float32, None)
    assert not whole.vectors.is_inference()
    for i in range(11):
        one = encode(encoder, dataset.subset([i]), Plain(), side=side, batch_size=1)
        assert torch.allclose(one.vectors[0], whole.vectors[i], atol=1e-6)
        assert [int(one.modality), int(one.category), int(one.instance)] == [i % 2, i % 3, i // 2]
    assert torch.equal(whole.category, torch.tensor(dataset.category))
    encoder.eval()
    image = Plain().prepare(dataset.read(6), 0)[None].float() / 255
    direct = encoder.gallery_vectors(Batch(image, *(torch.zeros(1).long(),) * 3))
    assert torch.allclose(whole.vectors[6] if side == "gallery" else whole.vectors[6, 0], direct[0].detach(), atol=1e-6)


def test_the_modes_of_all_modules_are_put_back(encoder: Small) -> None:
    classifier = Head()
    before = [module.training for part in (encoder, classifier) for module in part.modules()]
    first = encode(encoder, pictures(5), Plain(), side="gallery", classifier=classifier)
    assert [module.training for part in (encoder, classifier) for module in part.modules()] == before
    assert True in before
    assert False in before
    second = encode(encoder, pictures(5), Plain(), side="gallery", classifier=classifier)
    assert first.logits is not None
    assert second.logits is not None
    assert torch.equal(first.logits, second.logits)  # no dropout
    assert torch.allclose(first.logits, classifier.head[1](first.vectors).detach(), atol=1e-6)


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_an_image_is_encoded_once_for_its_vectors_and_its_logits(encoder: Small, side: Any) -> None:
    classifier, calls = Head(), list[int]()
    encoder.project.register_forward_hook(lambda _, inputs, rows: calls.append(len(rows)))
    result = encode(encoder, pictures(5), Plain(), side=side, batch_size=2, classifier=classifier)
    assert calls == [2, 2, 1]
    assert result.logits is not None
    vectors = result.vectors if side == "gallery" else result.vectors[:, 0]
    assert torch.allclose(result.logits, classifier.head[1](vectors).detach(), atol=1e-6)
    assert not encoder._forward_hooks


class Halved(Small):
    """Makes its vectors from other features than those of the batch as it stands."""

    def gallery_vectors(self, batch: Batch) -> Tensor:
        return torch.cat([super(Halved, self).gallery_vectors(batch[rows]) for rows in torch.arange(len(batch)).chunk(2)])


def test_logits_are_of_the_whole_batch(encoder: Small) -> None:
    classifier = Head()
    plain = encode(encoder, pictures(5), Plain(), side="gallery", batch_size=4, classifier=classifier)
    halved = Halved()
    halved.load_state_dict(encoder.state_dict())
    result = encode(halved, pictures(5), Plain(), side="gallery", batch_size=4, classifier=classifier)
    assert result.logits is not None
    assert plain.logits is not None
    assert torch.allclose(result.logits, plain.logits, atol=1e-6)


def test_modes_are_put_back_after_an_unreadable_image(encoder: Small) -> None:
    dataset = pictures(5)

    def broken(i: int) -> Image.Image:
        if i == 3:
            raise InputError("3.png cannot be read")
        return Image.new("RGB", (4, 4))

    bad = Dataset.of(
        "bad", categories="abc", modality=[1] * 5, category=dataset.category, instance=[-1] * 5, keys=dataset.keys, reader=broken
    )
    with pytest.raises(InputError, match=r"3\.png cannot be read"):
        encode(encoder, bad, Plain(), side="gallery", batch_size=2)
    assert encoder.training
    assert not encoder.norm.training


def test_a_bar_is_shown_on_a_terminal_only_when_it_takes_long(
    encoder: Small, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def output(progress: bool, terminal: bool) -> str:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
        encode(encoder, pictures(3), Plain(), side="gallery", progress=progress)
        out, err = capsys.readouterr()
        assert out == ""
        return err

    assert output(progress=True, terminal=True) == ""  # as it is over at once
    monkeypatch.setattr("sbirlib.progress.PATIENCE", 0.0)
    assert output(progress=False, terminal=True) == ""
    assert output(progress=True, terminal=False) == ""
    bar = output(progress=True, terminal=True)
    assert "encoding pictures" in bar
    assert "100%" in bar


def test_bad_input_is_refused(encoder: Small) -> None:
    with pytest.raises(InputError, match="pictures has no image to encode as query"):
        encode(encoder, pictures(4).subset([]), Plain(), side="query")
    with pytest.raises(InputError, match="side is 'query' or 'gallery', got 'photo'"):
        encode(encoder, pictures(2), Plain(), side="photo")  # type: ignore[arg-type]
