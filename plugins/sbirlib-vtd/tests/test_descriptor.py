from dataclasses import replace
from typing import Any

import pytest
import torch

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Features, Step
from sbirlib_vtd.descriptor import Descriptor
from sbirlib_vtd.dictionary import one_hot
from sbirlib_vtd.networks import SketchDecoder, SketchEncoder, small
from sbirlib_vtd.sketch_reconstruction import SketchReconstruction


def descriptor(**options: Any) -> Descriptor:
    torch.manual_seed(0)
    return Descriptor(**{"rows": 6, "dim": 10, "channels": 2, **options}).eval()


def drawings(count: int = 5, size: int = 64) -> Batch:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(count, dtype=torch.int64)
    return Batch(images, labels, labels, labels)


@torch.no_grad()
@pytest.mark.parametrize("use", ["row", "mix", "first"])
def test_the_descriptor_is_what_the_equations_say(use: str) -> None:
    encoder, batch = descriptor(use=use), drawings()
    features = encoder(batch)
    for b in range(5):
        code = encoder.sketch_encoder(2 * batch.images[b : b + 1].mean(1, keepdim=True) - 1)
        p = encoder.row.weight @ code[0] + encoder.row.bias
        row = p.argmax() if use == "row" else torch.tensor(0)
        share = torch.exp(p) / torch.exp(p).sum() if use == "mix" else torch.zeros(6).index_fill_(0, row, 1.0)  # eq. 1
        described = sum((share[k] * encoder.dictionary[k] for k in range(6)), start=torch.zeros(10))
        detailed = described * (1 + 0.02 * torch.tanh(encoder.detail.weight @ code[0] + encoder.detail.bias))  # eq. 2
        torch.testing.assert_close(features.rows["assignment"][b], p, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features.embedding[b], described, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features.images["reconstruction"][b], encoder.sketch_decoder(detailed[None])[0], rtol=1e-3, atol=1e-4)
    assert features.images["drawn"].shape == features.images["reconstruction"].shape == (5, 1, 64, 64)


@torch.no_grad()
def test_pictures_of_any_size_are_reduced_to_grey_ones_of_64() -> None:
    assert small(drawings(2, 299).images).shape == (2, 1, 64, 64)
    assert small(drawings(0).images).shape == (0, 1, 64, 64)
    torch.testing.assert_close(small(torch.ones(1, 3, 100, 100)), torch.ones(1, 1, 64, 64))
    images = drawings().images
    torch.testing.assert_close(small(images), 2 * images.mean(1, keepdim=True) - 1)


def test_the_networks_have_five_halvings_and_five_doublings() -> None:
    encoder, decoder = SketchEncoder(channels=2), SketchDecoder(dim=7, channels=2)
    assert encoder(torch.zeros(2, 1, 64, 64)).shape == (2, encoder.width)
    assert sum(m.stride == (2, 2) for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)) == 5
    assert sum(m.stride == (2, 2) for m in decoder.modules() if isinstance(m, torch.nn.ConvTranspose2d)) == 5
    sketches = decoder(torch.randn(2, 7))
    assert sketches.shape == (2, 1, 64, 64)
    assert float(sketches.abs().max()) <= 1


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_the_gradient_reaches_all_but_the_dictionary(assignment: str) -> None:
    encoder = descriptor(assignment=assignment).train()
    features = encoder(drawings(8))
    features.images["reconstruction"].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in encoder.parameters())
    assert bool((encoder.row.weight.grad != 0).any())  # type: ignore[union-attr]
    assert "dictionary" not in dict(encoder.named_parameters())
    assert not encoder.dictionary.requires_grad


def test_in_training_a_hard_assignment_takes_one_row_and_a_soft_one_mixes() -> None:
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    hard, soft = descriptor(assignment="hard").train(), descriptor().train()
    torch.testing.assert_close(hard.assigned(logits).amax(1), torch.ones(50))
    torch.testing.assert_close(soft.assigned(logits), logits.softmax(1))
    assert torch.equal(hard.eval().assigned(logits), one_hot(logits))


def test_rows_are_counted_and_come_back_at_the_end_of_an_epoch() -> None:
    encoder, batch = descriptor(), drawings()
    logits = torch.eye(6)[[0, 0, 3, 3, 3]]
    features: Features = replace(encoder(batch), rows={"assignment": logits})
    before = encoder.dictionary.clone()
    for _ in range(2):
        encoder.after_step(Step(features, encoder=encoder, batch=batch))
    assert encoder.counts.tolist() == [4, 0, 0, 6, 0, 0]
    encoder.end_epoch()
    assert encoder.counts.tolist() == [0] * 6
    assert int(encoder.epochs) == 1
    assert torch.equal(encoder.dictionary[[0, 3]], before[[0, 3]])
    for row in (1, 2, 4, 5):
        assert not torch.equal(encoder.dictionary[row], before[row])
        assert float(torch.cosine_similarity(encoder.dictionary[row], before[3], dim=0)) > 0.98
    before = encoder.dictionary.clone()
    encoder.end_epoch()  # an epoch that saw nothing
    assert torch.equal(encoder.dictionary, before)


def test_training_inside_an_encoder_that_hides_the_assignments_is_refused() -> None:
    encoder, batch = descriptor(), drawings()
    with pytest.raises(InputError, match="Descriptor trains inside an encoder whose features have no 'assignment'"):
        encoder.after_step(Step(replace(encoder(batch), rows={}), encoder=encoder, batch=batch))


@torch.no_grad()
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_blank_sketch_has_a_descriptor(value: float) -> None:
    batch = drawings(2)
    features = descriptor()(Batch(torch.full_like(batch.images, value), batch.modality, batch.category, batch.instance))
    assert bool(features.embedding.isfinite().all())
    assert torch.equal(features.embedding[0], features.embedding[1])


def test_the_reconstruction_is_a_sum_of_squares_or_their_mean() -> None:
    encoder, batch = descriptor(), drawings(3)
    features = encoder(batch)
    step = Step(features, encoder=encoder, batch=batch)
    error = [(features.images["drawn"][b] - features.images["reconstruction"][b]).square() for b in range(3)]
    torch.testing.assert_close(SketchReconstruction()(step), torch.stack([e.sum() for e in error]).mean())
    torch.testing.assert_close(SketchReconstruction(reduction="mean")(step), torch.stack([e.mean() for e in error]).mean())
    with pytest.raises(InputError, match="reduction = 'max': expected one of 'sum', 'mean'"):
        SketchReconstruction(reduction="max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 1}, "rows = 1: expected a whole number of at least 2"),
        ({"assignment": "sift"}, "assignment = 'sift': expected one of .*; did you mean 'soft'"),
        ({"use": "rows"}, "use = 'rows': expected one of .*; did you mean 'row'"),
        ({"temperature": 0.0}, "temperature = 0.0: expected a number above 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        descriptor(**options)
