"""Checks of encoders."""

from __future__ import annotations

import torch
from torch import Tensor

from sbirlib.interfaces import PHOTO, SKETCH, Encoder, Features
from sbirlib.testing.subject import Subject, require, runs, seeded
from sbirlib.testing.world import batch, uneven_rows


def gives_the_shapes_it_says(subject: Subject) -> None:
    """embedding [N, dim], vector [N, vector_dim], labels [N], all that it `provides`; finite, float32 at least."""
    encoder, images = _ready(subject), batch()
    features = encoder(images)
    count = len(features)
    sizes: dict[str, tuple[int, ...]] = {"embedding": (count, encoder.dim), "vector": (count, encoder.vector_dim)}
    sizes |= dict.fromkeys(("modality", "category", "instance", "source", "view"), (count,))
    for name, size in sizes.items():
        value = getattr(features, name)
        require(tuple(value.shape) == size, f"{subject.id}: {name} is {list(value.shape)}, expected {list(size)}")
    for name in ("embedding", "vector"):
        value = getattr(features, name)
        require(value.dtype in (torch.float32, torch.float64), f"{subject.id}: {name} is {value.dtype}, expected float32 at least")
        require(bool(value.isfinite().all()), f"{subject.id}: {name} is not finite")
    first = features[features.view == 0]
    require(
        sorted(first.source.tolist()) == list(range(len(images))), f"{subject.id}: every image gives one row of view 0, with its source"
    )
    require(bool((images.category[features.source] == features.category).all()), f"{subject.id}: rows do not carry their image's category")
    for name, value in features.rows.items():
        require(len(value) == count, f"{subject.id}: rows[{name!r}] has {len(value)} entries for {count} rows")
    for name, value in features.images.items():
        require(len(value) == len(images), f"{subject.id}: images[{name!r}] has {len(value)} entries for {len(images)} images")
    missing = sorted(encoder.provides - features.rows.keys() - features.images.keys() - features.extra.keys())
    require(not missing, f"{subject.id} says that it provides {', '.join(missing)}, and its features have no such thing")


def is_deterministic_in_eval_mode(subject: Subject) -> None:
    """The same images give the same vectors, whatever was drawn in between."""
    encoder, images = _ready(subject), batch()
    results = []
    for seed in (0, 1):
        with seeded(seed):
            results.append([encoder(images).vector, encoder.query_vectors(images), encoder.gallery_vectors(images)])
    for one, other in zip(*results, strict=True):
        require(torch.equal(one, other), f"{subject.id}: two calls in eval mode differ: noise in eval mode belongs in a buffer")


def rows_do_not_depend_on_their_batch(subject: Subject) -> None:
    """Row i of a batch equals a batch of one, as searched and as encoded."""
    encoder, images = _ready(subject), batch()
    for name in ("query_vectors", "gallery_vectors"):
        whole = getattr(encoder, name)(images)
        for i in (0, len(images) - 1):
            alone = getattr(encoder, name)(images[i : i + 1])
            require(_close(whole[i : i + 1], alone), f"{subject.id}: {name} of image {i} alone differs from its row in a batch")


def takes_either_modality(subject: Subject) -> None:
    """Sketches alone, photos alone, and both mixed."""
    encoder, images = _ready(subject), batch()
    mixed = encoder.gallery_vectors(images)
    for modality in (SKETCH, PHOTO):
        own = images.modality == modality
        alone = encoder.gallery_vectors(images[own])
        require(_close(mixed[own], alone), f"{subject.id}: images of modality {modality} alone are encoded differently from a mixed batch")


def takes_uneven_batches(subject: Subject) -> None:
    """Thirteen images, of modalities and categories in unequal shares: finite rows in training mode, and in eval mode those of another batch."""
    encoder, images = _ready(subject), batch()
    some = uneven_rows(images)
    with runs(subject, "a batch of 13 images in unequal shares"):
        trained = encoder.train()(images[some]).vector
        alone = encoder.eval().gallery_vectors(images[some])
    require(bool(trained.isfinite().all()), f"{subject.id}: its vectors of a batch of 13 images in unequal shares are not finite")
    whole = encoder.gallery_vectors(images)[some]
    require(_close(whole, alone), f"{subject.id}: images are encoded differently in a batch of 13 images in unequal shares")


def distances_read_no_parameter(subject: Subject) -> None:
    """distances(features) [N, N] come from features alone: finite, not negative, and unmoved by other weights."""
    encoder = _ready(subject)
    features = encoder(batch())
    before = encoder.distances(features)
    count = len(features)
    require(tuple(before.shape) == (count, count), f"{subject.id}: distances are {list(before.shape)}, expected {[count, count]}")
    require(bool(before.isfinite().all()), f"{subject.id}: distances are not finite")
    require(bool((before >= 0).all()), f"{subject.id}: a distance is negative, {float(before.min()):.3g}")
    with torch.no_grad():
        for value in (*encoder.parameters(), *encoder.buffers()):
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    after = encoder.distances(features)
    require(
        torch.equal(before, after), f"{subject.id}: distances change with the encoder's parameters: put their inputs into features.rows"
    )


def vectors_rank_as_distances_do(subject: Subject) -> None:
    """For every sketch, a photo that is nearer by `distances` scores higher by the inner product of the vectors."""
    encoder, images = _ready(subject), batch(instances=4)
    features: Features = encoder(images)
    features = features[features.view == 0]
    features = features[features.source.argsort()]
    sketch, photo = images.modality == SKETCH, images.modality == PHOTO
    distances = encoder.distances(features)[sketch][:, photo].double()
    queries, gallery = encoder.query_vectors(images[sketch]).double(), encoder.gallery_vectors(images[photo]).double()
    scores = torch.einsum("qsv,gv->qsg", queries, gallery).amax(1)
    spread = distances.amax(1) - distances.amin(1)
    require(bool((spread > 0).all()), f"{subject.id}: all photos are equally far from a sketch")
    nearer = distances[:, :, None] < distances[:, None, :] - 1e-3 * spread[:, None, None]
    slack = 1e-4 * (scores.amax(1) - scores.amin(1))[:, None, None]
    wrong = nearer & (scores[:, :, None] < scores[:, None, :] - slack)
    require(
        not bool(wrong.any()), f"{subject.id}: {int(wrong.sum())} of {int(nearer.sum())} pairs of photos rank otherwise by their vectors"
    )


def gradients_reach_every_parameter(subject: Subject) -> None:
    """Each parameter that trains has a finite gradient from rows, images and extras in training mode."""
    encoder = subject.make().train()
    features = encoder(batch())
    tensors = [features.embedding, features.vector, *features.rows.values(), *features.images.values(), *features.extra.values()]
    outputs = [t for t in tensors if isinstance(t, Tensor) and t.requires_grad]
    require(bool(outputs), f"{subject.id}: its outputs have no gradient")
    with seeded(0):
        sum((value * torch.randn_like(value)).sum() for value in outputs).backward()  # type: ignore[union-attr]
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            reached = parameter.grad is not None and bool(parameter.grad.isfinite().all())
            require(reached, f"{subject.id}: no finite gradient reaches {name}")


def _ready(subject: Subject) -> Encoder:
    encoder: Encoder = subject.make()
    encoder.load_weights()
    return encoder.eval().requires_grad_(False)


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


CHECKS = (
    gives_the_shapes_it_says,
    is_deterministic_in_eval_mode,
    rows_do_not_depend_on_their_batch,
    takes_either_modality,
    takes_uneven_batches,
    distances_read_no_parameter,
    vectors_rank_as_distances_do,
    gradients_reach_every_parameter,
)
