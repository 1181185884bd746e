"""Encoder under a hypernetwork: a sketch's descriptor gates the features of itself and of all photos."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from sbirlib.plugin_api import SKETCH, Batch, Encoder, Features, InputError, Wrapper, at_least_float32, root
from sbirlib_vtd.gate import gated_cosines, gated_distances, gated_query, normalised_query, plain_gallery

UNIT = 1e-3  # tolerance of a vector's length


class Adaptive(Wrapper):
    """An encoder under a hypernetwork: each sketch gates its own features and those of the photos it is compared with (Pang et al. 2019,
    section 3.2).

        mu = W_mu D_s + b_mu,    sigma = exp((W_sigma D_s + b_sigma) / 2),    eta = mu + sigma noise (eq. 10)
        d(s, p) = |psi(s) - psi(p)|,    psi(x) = eta * F(x) + F(x) (eq. 8), of unit length if `normalise`

    F is the vector of `encoder`, of unit length, and D_s the sketch's embedding by `descriptor`. A pair is compared under its sketch's gate, two
    photos without one, and two sketches under that of the row. In training each sketch samples one gate; in eval mode it has several, from noise
    that is stored with the weights and shared by all sketches, and the smallest distance counts. Photos are encoded once: their vectors are
    [b, b^2, 1].

    Distances are exact in training. Those of normalised psi are no inner products, so in eval mode they and the search take the cosine from the
    nearest of `photo_lengths` lengths of psi(p): with 16 of them its square is at most 0.21 % too low, for cos |psi(s)| / |psi(p)| from 0.3 to
    1.25. A query has S = draws vectors [S, 2V + 1], or draws photo_lengths if normalised.

    Rows have `gate` [N, draws, V] (zero for photos), `gate_mean` and `gate_log_variance` [N, V]. Raises InputError around an encoder whose vectors
    are not of unit length, as those of a zero embedding are not.

    Args:
        encoder: encoder of F
        descriptor: encoder of D_s, a sketch's visual trait
        draws: number of gates of a sketch in eval mode
        gate_scale: length that eta is scaled to; left as it is drawn where none
        normalise: compare psi(x) at unit length
        photo_lengths: lengths of a photo's psi that search tries, where psi is normalised

    >>> adaptive = Adaptive(encoder=encoder, descriptor=part("encoder", "descriptor"), draws=10, photo_lengths=16).eval()
    >>> encoder.vector_dim, adaptive.query_vectors(batch).shape
    (16, torch.Size([12, 160, 33]))
    """

    noise: Tensor

    def __init__(
        self,
        *,
        encoder: Encoder,
        descriptor: Encoder,
        draws: Annotated[int, Ge(1)] = 10,
        gate_scale: Annotated[float, Ge(0)] | None = None,
        normalise: bool = True,
        photo_lengths: Annotated[int, Ge(1)] = 16,
    ) -> None:
        super().__init__(encoder)
        self.descriptor, self.gate_scale = descriptor, gate_scale
        self.normalise, self.photo_lengths = normalise, photo_lengths
        width = self.vector_dim = encoder.vector_dim
        self.gate_mean, self.gate_log_variance = (nn.Linear(descriptor.dim, width) for _ in range(2))
        self.register_buffer("noise", torch.randn(draws, width))
        self.provides = encoder.provides | {"gate", "gate_mean", "gate_log_variance"}

    def forward(self, batch: Batch) -> Features:
        features: Features = self.encoder(batch)
        check_lengths(features, images=len(batch), name=type(self.encoder).__name__)
        sketch = (features.modality == SKETCH).nonzero()[:, 0]
        descriptors = (
            self.descriptor(batch[features.source[sketch]]).embedding if len(sketch) else features.vector.new_zeros(0, self.descriptor.dim)
        )
        mean, log_variance = (at_least_float32(layer(descriptors)) for layer in (self.gate_mean, self.gate_log_variance))
        gate = self.gates(mean, log_variance)
        rows = {"gate": gate, "gate_mean": mean, "gate_log_variance": log_variance}
        spread = {
            name: torch.zeros(len(features), *value.shape[1:], dtype=value.dtype, device=value.device).index_copy(0, sketch, value)
            for name, value in rows.items()
        }
        return replace(features, rows=features.rows | spread)

    def gates(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """eta [M, draws, V] of M sketches from mu and log sigma^2 [M, V]: a new sample in training, those of the stored noise otherwise (eq. 10)."""
        noise = torch.randn_like(mean)[:, None] if self.training else self.noise.to(mean.dtype)
        samples = mean[:, None] + (log_variance / 2).exp()[:, None] * noise
        return samples if self.gate_scale is None else self.gate_scale * F.normalize(samples, dim=2)

    def distances(self, features: Features) -> Tensor:
        """Distances of all pairs of rows [N, N], each under its sketch's gate."""
        vectors, gate = features.vector, features.rows["gate"]
        with torch.autocast(vectors.device.type, enabled=False):
            under = torch.stack([self._squared(vectors, gate[:, s]) for s in range(gate.shape[1])]).amin(0)
        sketch = features.modality == SKETCH
        return root(torch.where(~sketch[:, None] & sketch, under.T, under))  # a photo is compared under the sketch's gate

    def _squared(self, vectors: Tensor, gate: Tensor) -> Tensor:
        """Squared distances [N, N] of vectors [N, V], each row under its gate [N, V]; 2 - 2 cos if normalised, in eval mode as search has it."""
        if not self.normalise:
            return gated_distances(vectors, gate, vectors)
        if self.training:
            cosines = gated_cosines(vectors, gate, vectors)
        else:
            query = normalised_query(vectors, gate[:, None], self.photo_lengths)
            cosines = root((1 + (query @ plain_gallery(vectors).T).amax(1)).clamp(min=0))
        return (2 - 2 * cosines).clamp(min=0)

    def query_vectors(self, batch: Batch) -> Tensor:
        """Vectors of queries [Q, S, 2V + 1]."""
        features = self._of_images(batch)
        vectors, gate = features.vector, features.rows["gate"]
        return normalised_query(vectors, gate, self.photo_lengths) if self.normalise else gated_query(vectors, gate)

    def gallery_vectors(self, batch: Batch) -> Tensor:
        """Vectors of photos [G, 2V + 1]."""
        return plain_gallery(self._of_images(batch).vector)

    def _of_images(self, batch: Batch) -> Features:
        """Features of the images themselves, in their order, without synthesised rows."""
        features: Features = self(batch)
        features = features[features.view == 0]
        return features[features.source.argsort()]


def check_lengths(features: Features, *, images: int, name: str) -> None:
    """Raise InputError unless the vectors [N, V], by the encoder `name` of so many images, are of unit length; zero has a message of its own."""
    lengths = features.vector.detach().norm(dim=1)
    if torch.allclose(lengths, torch.ones_like(lengths), atol=UNIT):
        return
    zero = lengths <= UNIT
    if torch.allclose(lengths[~zero], torch.ones_like(lengths[~zero]), atol=UNIT):
        raise InputError(
            f"the embedding by {name} is zero for {len(features.source[zero].unique())} of {images} images, and adaptive gates vectors of unit "
            "length: usual causes are weights that are not loaded, units that a too high learning rate has killed, and blank images. Load the "
            "encoder's weights, train it again at a lower learning rate, or remove the blank images"
        )
    raise InputError(f"adaptive gates vectors of unit length, and {name} gives others: put adaptive inside it")
