"""The encoder that gives a sketch its visual trait descriptor."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from sbirlib.edges import DETECTORS, drawings
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Batch, Features
from sbirlib_vtd.dictionary import gumbel_one_hot, one_hot, random_rows
from sbirlib_vtd.networks import SketchDecoder, SketchEncoder, small
from sbirlib_vtd.quantiser import Quantiser

CHOICES = {"assignment": ("soft", "hard"), "use": ("row", "mix", "first"), "edges": tuple(DETECTORS)}


class Descriptor(Quantiser):
    """An autoencoder that passes a sketch through one of K fixed random rows of length M, its visual trait (Pang et al. 2019, section 3.1).

        p   = W_p E(s) + b_p                               E of 64 x 64 pixels
        D_s = a D                                          a = softmax(p), or by `assignment` "hard" onehot by Gumbel-softmax (eq. 1, 3)
        s'  = R(D_s (1 + 0.02 tanh(W_sk E(s) + b_sk)))     eq. 2: the skip feeds the decoder alone

    The embedding [B, M] is D_s; in eval mode a is onehot(argmax p), softmax(p) with `use` "mix", or with "first" the first row whatever is
    drawn, which shows what the choice is worth. Gives `assignment`, the logits p [B, K], and for each image its `reconstruction` s' and
    `drawn`, what was to be drawn, [B, 1, 64, 64] in [-1, 1]. The rows D are `rows` many, no parameter, and get no gradient: after each epoch
    those that no image took are replaced by the most taken, perturbed by `revival`.

    Train it as a phase of its own, `encoder = "descriptor"` in `adaptive`, on sketches alone; photos enter as their edge map, by `edges`.
    Raises InputError for fewer than 2 rows.

    >>> Descriptor(rows=300, dim=256).dictionary.shape
    torch.Size([300, 256])
    """

    provides = frozenset({"assignment", "reconstruction", "drawn"})
    dictionary: Tensor

    def __init__(
        self,
        *,
        rows: int = 300,
        dim: int = 256,
        assignment: Literal["soft", "hard"] = "soft",
        use: Literal["row", "mix", "first"] = "row",
        channels: int = 32,
        skip: float = 0.02,
        temperature: float = 1.0,
        revival: float = 0.05,
        edges: Literal["sobel", "canny", "given"] = "sobel",
    ) -> None:
        for option, value in {"assignment": assignment, "use": use, "edges": edges}.items():
            if value not in CHOICES[option]:
                raise InputError(f"descriptor: unknown {option} {value!r}{nearest(value, CHOICES[option])}")
        for option, number, least in (("rows", rows, 2), ("dim", dim, 1), ("channels", channels, 1)):
            if number < least:
                raise InputError(f"descriptor: {option} must be at least {least}, got {number}")
        if temperature <= 0:
            raise InputError(f"descriptor: temperature must be positive, got {temperature}")
        super().__init__(count=rows, revival=revival)
        self.dim = self.vector_dim = dim
        self.assignment, self.use, self.skip, self.temperature = assignment, use, skip, temperature
        self.edges = edges
        self.sketch_encoder = SketchEncoder(channels=channels)
        self.row, self.detail = (nn.Linear(self.sketch_encoder.width, width) for width in (rows, dim))
        self.sketch_decoder = SketchDecoder(dim=dim, channels=channels)
        self.register_buffer("dictionary", random_rows(rows, dim))

    def forward(self, batch: Batch) -> Features:
        drawn = small(drawings(batch, self.edges)[0])
        code = self.sketch_encoder(drawn)
        logits = self.row(code)
        descriptor = self.assigned(logits) @ self.dictionary
        detailed = descriptor * (1 + self.skip * torch.tanh(self.detail(code)))
        features = Features.of(batch, descriptor, rows={"assignment": logits})
        return replace(features, images={"reconstruction": self.sketch_decoder(detailed), "drawn": drawn})

    def assigned(self, logits: Tensor) -> Tensor:
        """The share of each row [B, K] in the descriptor, from logits [B, K]."""
        if not self.training:
            return logits.softmax(1) if self.use == "mix" else one_hot(logits if self.use == "row" else torch.zeros_like(logits))
        return logits.softmax(1) if self.assignment == "soft" else gumbel_one_hot(logits, self.temperature)

    def table(self) -> Tensor:
        return self.dictionary
