from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features
from sbirlib_vtd.adaptive import Adaptive
from sbirlib_vtd.descriptor import Descriptor
from sbirlib_vtd.gate import gated_cosines


class Linear(Encoder):
    def __init__(self, *, width: int = 8, unit: bool = True) -> None:
        super().__init__()
        self.dim = self.vector_dim = width
        self.unit, self.embedding = unit, nn.Linear(48, width)

    def forward(self, batch: Batch) -> Features:
        embedding = self.embedding(F.adaptive_avg_pool2d(batch.images, 4).flatten(1) - 0.5)
        return Features.of(batch, embedding, vector=None if self.unit else 2 * embedding)


PRINTED: dict[str, Any] = {"gate_scale": 1.0, "normalise": False}  # section 4.1 to the letter: eta of unit length, psi as it comes


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


def literal(encoder: Adaptive, batch: Batch, sketch: int, other: int, noises: Tensor) -> float:
    """The smallest |psi(s) - psi(p)| over draws of the noise [S, V] of sketch `sketch`, eq. 8 to 10."""
    vectors: Tensor = encoder.encoder(batch).vector
    described = encoder.descriptor(batch[sketch : sketch + 1]).embedding[0]
    mu = encoder.gate_mean.weight @ described + encoder.gate_mean.bias
    sigma = torch.exp((encoder.gate_log_variance.weight @ described + encoder.gate_log_variance.bias) / 2)
    distances = []
    for noise in noises:
        eta = mu + sigma * noise
        if encoder.gate_scale is not None:
            eta = encoder.gate_scale * eta / eta.norm()
        s, p = (eta * vectors[i] + vectors[i] for i in (sketch, other))
        if encoder.normalise:
            s, p = s / s.norm(), p / p.norm()
        distances.append(float((s - p).norm()))
    return min(distances)


def expected_distances(encoder: Adaptive, batch: Batch, noises: list[Tensor]) -> Tensor:
    """Distances [N, N] pair by pair: a pair under its sketch's gate, two photos without one, two sketches under that of the row."""
    plain = torch.cdist(encoder.encoder(batch).vector, encoder.encoder(batch).vector)
    for i in range(len(batch)):
        for j in range(len(batch)):
            if batch.modality[i] == SKETCH:
                plain[i, j] = literal(encoder, batch, i, j, noises[i])
            elif batch.modality[j] == SKETCH:
                plain[i, j] = literal(encoder, batch, j, i, noises[j])
    return plain


@torch.no_grad()
@pytest.mark.parametrize("options", [PRINTED, {"gate_scale": 2.0, "normalise": False}, {"normalise": False}], ids=str)
def test_a_pair_is_compared_under_its_sketchs_gate(options: dict[str, Any]) -> None:
    encoder, batch = adaptive(**options), mixed()
    distances = encoder.distances(encoder(batch))
    torch.testing.assert_close(distances.square(), expected_distances(encoder, batch, [encoder.noise] * 8).square(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"gate_scale": 2.0}, {"normalise": False}], ids=str)
def test_in_training_distances_are_exact_for_all_pairs(options: dict[str, Any]) -> None:
    """Of normalised psi too, each sketch under the one gate that it has sampled."""
    encoder, batch = adaptive(**options), mixed()
    encoder.train()
    encoder.descriptor.eval()
    torch.manual_seed(5)
    distances = encoder.distances(encoder(batch))
    torch.manual_seed(5)
    noise = iter(torch.randn(4, 8))  # of the four sketches
    noises = [next(noise)[None] if modality == SKETCH else torch.empty(0) for modality in batch.modality]
    torch.testing.assert_close(distances.square(), expected_distances(encoder, batch, noises).square(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("options", [PRINTED, {}, {"photo_lengths": 3}], ids=str)
def test_query_and_gallery_vectors_rank_as_the_distances(options: dict[str, Any]) -> None:
    encoder, batch = adaptive(**options), mixed()
    sketch, photo = batch.modality == SKETCH, batch.modality == PHOTO
    queries, gallery = encoder.query_vectors(batch[sketch]), encoder.gallery_vectors(batch[photo])
    assert queries.shape == (4, 10 if options == PRINTED else 10 * encoder.photo_lengths, 17)
    assert gallery.shape == (4, 17)
    scores = torch.einsum("qsv,gv->qsg", queries, gallery).amax(1)
    squared = encoder.distances(encoder(batch))[sketch][:, photo].square()
    expected = (1 - squared / 2).square() - 1 if encoder.normalise else -squared  # minus the squared sine, where the cosine is above 0
    positive = (squared < 2 - 1e-4) | torch.tensor(not encoder.normalise)
    assert bool(positive.any())
    torch.testing.assert_close(scores[positive], expected[positive], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_in_eval_mode_the_cosine_of_normalised_psi_is_that_of_search() -> None:
    """Never above the exact one, and nearer to it the more lengths there are; test_gate.py has the bound."""
    batch = mixed(40)
    pair = (batch.modality[:, None] == SKETCH) & (batch.modality == PHOTO)
    deficits = []
    for count in (16, 200):
        encoder = adaptive(photo_lengths=count)
        features = encoder(batch)
        vectors, gate = features.vector, features.rows["gate"]
        exact = torch.stack([gated_cosines(vectors, gate[:, s], vectors) for s in range(10)]).amax(0)[pair]
        searched = (1 - encoder.distances(features).square() / 2)[pair]
        deficit = (1 - (searched / exact).square())[exact > 0.5]
        assert len(deficit) > 100
        assert float(deficit.min()) > -1e-5
        deficits.append(float(deficit.median()))
    assert deficits[0] < 0.0021
    assert deficits[1] < 1e-5


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
def test_without_a_scale_a_gate_is_as_it_is_drawn() -> None:
    """So mu decides it where mu is large, which a gate of unit length hides."""
    encoder, batch = adaptive(), mixed()
    features = encoder(batch)
    sketch = batch.modality == SKETCH
    sigma = (features.rows["gate_log_variance"][sketch] / 2).exp()[:, None]
    torch.testing.assert_close(features.rows["gate"][sketch], features.rows["gate_mean"][sketch][:, None] + sigma * encoder.noise)


@torch.no_grad()
def test_a_gate_has_the_length_it_should_and_photos_have_none() -> None:
    batch = mixed()
    gate = adaptive(gate_scale=3.0)(batch).rows["gate"]
    torch.testing.assert_close(gate[batch.modality == SKETCH].norm(dim=2), torch.full((4, 10), 3.0))
    assert not bool(gate[batch.modality == PHOTO].any())


@torch.no_grad()
def test_photos_alone_and_no_image_at_all() -> None:
    encoder, batch = adaptive(normalise=False), mixed()
    photos = batch[batch.modality == PHOTO]
    torch.testing.assert_close(encoder.gallery_vectors(photos), encoder.gallery_vectors(batch)[batch.modality == PHOTO])
    vectors = encoder.encoder(photos).vector
    torch.testing.assert_close(encoder.distances(encoder(photos)), torch.cdist(vectors, vectors), atol=1e-3, rtol=1e-4)
    assert encoder.query_vectors(batch[:0]).shape == (0, 10, 17)


@torch.no_grad()
def test_gates_of_no_length_leave_the_encoders_own_distances() -> None:
    """So hard transfer, which it is compared with, is the same network without gates."""
    encoder, batch = adaptive(gate_scale=0.0, normalise=False), mixed()
    torch.testing.assert_close(encoder.distances(encoder(batch)), encoder.encoder.distances(encoder.encoder(batch)), atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_a_blank_sketch_and_a_black_photo_are_compared_like_any_other() -> None:
    encoder, batch = adaptive(), mixed()
    batch.images[batch.modality == SKETCH] = 1.0
    batch.images[batch.modality == PHOTO] = 0.0
    assert bool(encoder.distances(encoder(batch)).isfinite().all())
    assert bool(encoder.query_vectors(batch).isfinite().all())


@pytest.mark.parametrize("normalise", [True, False])
def test_rows_that_coincide_give_no_gradient_but_a_number(normalise: bool) -> None:
    encoder, batch = adaptive(normalise=normalise).train(), mixed()
    batch.images[4:] = batch.images[:4]
    encoder.distances(encoder(batch)).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("options", [{}, PRINTED], ids=str)
def test_the_gradient_reaches_the_hypernetwork(options: dict[str, Any]) -> None:
    encoder, batch = adaptive(**options).train(), mixed()
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
    with pytest.raises(InputError, match="Adaptive: photo_lengths = 0: expected a whole number of at least 1"):
        adaptive(photo_lengths=0)
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
