from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features
from sbirlib_vtd.adaptive import Adaptive
from sbirlib_vtd.descriptor import Descriptor


class Linear(Encoder):
    def __init__(self, *, width: int = 8, unit: bool = True) -> None:
        super().__init__()
        self.dim = self.vector_dim = width
        self.unit, self.embedding = unit, nn.Linear(48, width)

    def forward(self, batch: Batch) -> Features:
        embedding = self.embedding(F.adaptive_avg_pool2d(batch.images, 4).flatten(1) - 0.5)
        return Features.of(batch, embedding, vector=None if self.unit else 2 * embedding)


def adaptive(*, unit: bool = True, **options: Any) -> Adaptive:
    torch.manual_seed(0)
    descriptor = Descriptor(rows=6, dim=10, channels=2, use="mix")
    encoder = Adaptive(encoder=Linear(unit=unit), descriptor=descriptor, **options).eval()
    for layer in (encoder.gate_mean, encoder.gate_log_variance):
        nn.init.normal_(layer.weight, std=2.0)
    return encoder


def mixed(count: int = 8) -> Batch:
    images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(count)
    return Batch(images, torch.tensor([SKETCH, PHOTO, PHOTO, SKETCH] * count)[:count], labels, labels)


def literal(encoder: Adaptive, batch: Batch, sketch: int, other: int) -> float:
    """The smallest |psi(s) - psi(p)| over the stored draws of sketch `sketch`, eq. 8 to 10."""
    vectors: Tensor = encoder.encoder(batch).vector
    described = encoder.descriptor(batch[sketch : sketch + 1]).embedding[0]
    mu = encoder.gate_mean.weight @ described + encoder.gate_mean.bias
    sigma = torch.exp((encoder.gate_log_variance.weight @ described + encoder.gate_log_variance.bias) / 2)
    distances = []
    for noise in encoder.noise:
        eta = mu + sigma * noise
        eta = encoder.gate_scale * eta / eta.norm()
        s, p = (eta * vectors[i] + vectors[i] for i in (sketch, other))
        distances.append(float((s - p).norm()))
    return min(distances)


@torch.no_grad()
def test_a_pair_is_compared_under_its_sketchs_gate() -> None:
    encoder, batch = adaptive(gate_scale=2.0), mixed()
    distances = encoder.distances(encoder(batch))
    plain = torch.cdist(encoder.encoder(batch).vector, encoder.encoder(batch).vector)
    for i in range(8):
        for j in range(8):
            if batch.modality[i] == SKETCH:
                expected = literal(encoder, batch, i, j)
            elif batch.modality[j] == SKETCH:
                expected = literal(encoder, batch, j, i)
            else:
                expected = float(plain[i, j])
            assert abs(float(distances[i, j]) ** 2 - expected**2) < 1e-5


@torch.no_grad()
def test_query_and_gallery_vectors_give_the_same_distances() -> None:
    encoder, batch = adaptive(), mixed()
    sketch, photo = batch.modality == SKETCH, batch.modality == PHOTO
    queries, gallery = encoder.query_vectors(batch[sketch]), encoder.gallery_vectors(batch[photo])
    assert queries.shape == (4, 10, 17)
    assert gallery.shape == (4, 17)
    scores = torch.einsum("qsv,gv->qsg", queries, gallery).amax(1)
    torch.testing.assert_close(-scores, encoder.distances(encoder(batch))[sketch][:, photo].square(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_noise_is_drawn_in_training_and_stored_for_the_rest() -> None:
    encoder, batch = adaptive(), mixed()
    assert encoder(batch).rows["gate"].shape == (8, 10, 8)
    assert torch.equal(encoder(batch).rows["gate"], encoder(batch).rows["gate"])
    encoder.train()
    encoder.descriptor.eval()
    once, again = (encoder(batch).rows["gate"] for _ in range(2))
    assert once.shape == (8, 1, 8)
    assert not torch.equal(once, again)
    other = adaptive().state_dict()
    assert torch.equal(other["noise"], encoder.state_dict()["noise"])


@torch.no_grad()
def test_a_gate_has_the_length_it_should_and_photos_have_none() -> None:
    batch = mixed()
    gate = adaptive(gate_scale=3.0)(batch).rows["gate"]
    torch.testing.assert_close(gate[batch.modality == SKETCH].norm(dim=2), torch.full((4, 10), 3.0))
    assert not bool(gate[batch.modality == PHOTO].any())


@torch.no_grad()
def test_photos_alone_and_no_image_at_all() -> None:
    encoder, batch = adaptive(), mixed()
    photos = batch[batch.modality == PHOTO]
    torch.testing.assert_close(encoder.gallery_vectors(photos), encoder.gallery_vectors(batch)[batch.modality == PHOTO])
    vectors = encoder.encoder(photos).vector
    torch.testing.assert_close(encoder.distances(encoder(photos)), torch.cdist(vectors, vectors), atol=1e-3, rtol=1e-4)
    assert encoder.query_vectors(batch[:0]).shape == (0, 10, 17)


@torch.no_grad()
def test_gates_of_no_length_leave_the_encoders_own_distances() -> None:
    """So hard transfer, which it is compared with, is the same network without gates."""
    encoder, batch = adaptive(gate_scale=0.0), mixed()
    torch.testing.assert_close(encoder.distances(encoder(batch)), encoder.encoder.distances(encoder.encoder(batch)), atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_a_blank_sketch_and_a_black_photo_are_compared_like_any_other() -> None:
    encoder, batch = adaptive(), mixed()
    batch.images[batch.modality == SKETCH] = 1.0
    batch.images[batch.modality == PHOTO] = 0.0
    assert bool(encoder.distances(encoder(batch)).isfinite().all())
    assert bool(encoder.query_vectors(batch).isfinite().all())


def test_rows_that_coincide_give_no_gradient_but_a_number() -> None:
    encoder, batch = adaptive().train(), mixed()
    batch.images[4:] = batch.images[:4]
    encoder.distances(encoder(batch)).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in encoder.parameters() if p.grad is not None)


def test_the_gradient_reaches_the_hypernetwork() -> None:
    encoder, batch = adaptive().train(), mixed()
    encoder.distances(encoder(batch)).sum().backward()
    for layer in (encoder.gate_mean, encoder.gate_log_variance):
        assert layer.weight.grad is not None
        assert bool((layer.weight.grad != 0).any())


@torch.no_grad()
def test_another_row_of_the_dictionary_orders_photos_otherwise() -> None:
    encoder = adaptive(gate_scale=4.0)
    assert isinstance(encoder.descriptor, Descriptor)
    encoder.descriptor.use = "row"
    batch = mixed(40)
    sketch, photo = batch.modality == SKETCH, batch.modality == PHOTO
    before = encoder.distances(encoder(batch))[sketch][:, photo].argsort(1)
    encoder.descriptor.dictionary[:] = encoder.descriptor.dictionary[0].flip(0)
    after = encoder.distances(encoder(batch))[sketch][:, photo].argsort(1)
    assert not torch.equal(before, after)


def test_bad_use_is_refused() -> None:
    with pytest.raises(InputError, match="Adaptive: draws = 0: expected a whole number of at least 1"):
        adaptive(draws=0)
    with pytest.raises(InputError, match="Adaptive: gate_scale = -1.0: expected a number of at least 0"):
        adaptive(gate_scale=-1.0)
    with pytest.raises(InputError, match="gates vectors of unit length, and Linear gives others: put adaptive inside it"):
        adaptive(unit=False)(mixed())


def zero_for_grey_images(count: int) -> tuple[Adaptive, Batch]:
    """An encoder without a bias, whose embedding of a grey image is zero, and a batch with `count` grey images."""
    encoder, batch = adaptive(), mixed()
    assert isinstance(encoder.encoder, Linear)
    nn.init.zeros_(encoder.encoder.embedding.bias)
    batch.images[:count] = 0.5
    return encoder, batch


@pytest.mark.parametrize("count", [1, 3, 8])
def test_zero_embeddings_are_counted_and_their_causes_named(count: int) -> None:
    encoder, batch = zero_for_grey_images(count)
    with pytest.raises(InputError) as error:
        encoder(batch)
    message = str(error.value)
    assert f"the embedding by Linear is zero for {count} of 8 images" in message
    for cause in ("weights that are not loaded", "learning rate", "blank images"):
        assert cause in message
    assert "put adaptive inside" not in message


def test_other_lengths_come_before_zeros() -> None:
    """An encoder that does not normalise is refused as such, whatever its zeros."""
    encoder, batch = zero_for_grey_images(2)
    assert isinstance(encoder.encoder, Linear)
    encoder.encoder.unit = False
    with pytest.raises(InputError, match="gates vectors of unit length, and Linear gives others"):
        encoder(batch)
