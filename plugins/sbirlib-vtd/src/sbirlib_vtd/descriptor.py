"""Visual trait descriptor: an autoencoder of sketches through a fixed dictionary."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from sbirlib.plugin_api import Batch, Features, drawings
from sbirlib_vtd.dictionary import gumbel_one_hot, one_hot, random_rows
from sbirlib_vtd.networks import SketchDecoder, SketchEncoder, small
from sbirlib_vtd.quantiser import Quantiser


class Descriptor(Quantiser):
    """An autoencoder that maps a sketch to one of K fixed random codes of length M, its visual trait (Pang et al. 2019, section 3.1).

        p   = W_p E(s) + b_p                                E of 64 x 64 pixels
        D_s = a D                                           a = softmax(p), or by `assignment` "hard" onehot by Gumbel-softmax (eq. 1, 3)
        s'  = R(D_s (1 + skip tanh(W_sk E(s) + b_sk)))      eq. 2: the skip feeds the decoder alone

    The embedding [B, M] is D_s; in eval mode a is onehot(argmax p), softmax(p) with `use` "mix", or with "first" always the first code, an
    ablation. Rows have `assignment`, the logits p [B, K]; images have the `reconstruction` s' and its target `drawn`, [B, 1, 64, 64] in
    [-1, 1]. The dictionary D [K, M] is no parameter and gets no gradient; dead codes are re-initialised each epoch.

    Train it in a separate phase, `encoder = "descriptor"` in `adaptive`, on sketches alone; photos enter as their edge map.

    Args:
        rows: number K of codes
        dim: length M of a code
        assignment: soft or hard assignment in training
        use: code of a sketch in eval mode: its own row, the mix of rows, or always the first
        channels: filters of the first convolution
        skip: scale of the skip connection
        temperature: temperature of the Gumbel-softmax
        edges: edge detector for photos; "given" for photos that are edge maps already

    >>> Descriptor(rows=300, dim=256).dictionary.shape
    torch.Size([300, 256])
    """

    provides = frozenset({"assignment", "reconstruction", "drawn"})
    dictionary: Tensor

    def __init__(
        self,
        *,
        rows: Annotated[int, Ge(2)] = 300,
        dim: Annotated[int, Ge(1)] = 256,
        assignment: Literal["soft", "hard"] = "soft",
        use: Literal["row", "mix", "first"] = "row",
        channels: Annotated[int, Ge(1)] = 32,
        skip: Annotated[float, Ge(0)] = 0.02,
        temperature: Annotated[float, Gt(0)] = 1.0,
        revival: Annotated[float, Ge(0)] = 0.05,
        edges: Literal["sobel", "canny", "given"] = "sobel",
    ) -> None:
        super().__init__(count=rows, revival=revival)
        self.dim = self.vector_dim = dim
        self.assignment, self.use, self.skip, self.temperature = assignment, use, skip, temperature
        self.edges = edges
        self.sketch_encoder = SketchEncoder(channels=channels)
        self.row, self.detail = (nn.Linear(self.sketch_encoder.width, width) for width in (rows, dim))
        self.sketch_decoder = SketchDecoder(dim=dim, channels=channels)
        self.register_buffer("dictionary", random_rows(rows, dim))

    def forward(self, batch: Batch) -> Features:
        sketches = small(drawings(batch, self.edges)[0])
        code = self.sketch_encoder(sketches)
        logits = self.row(code)
        descriptor = self.assigned(logits) @ self.dictionary
        detailed = descriptor * (1 + self.skip * torch.tanh(self.detail(code)))
        features = Features.of(batch, descriptor, rows={"assignment": logits})
        return replace(features, images={"reconstruction": self.sketch_decoder(detailed), "drawn": sketches})

    def assigned(self, logits: Tensor) -> Tensor:
        """Weight of each code [B, K] in the descriptor, from logits [B, K]."""
        if not self.training:
            return logits.softmax(1) if self.use == "mix" else one_hot(logits if self.use == "row" else torch.zeros_like(logits))
        return logits.softmax(1) if self.assignment == "soft" else gumbel_one_hot(logits, self.temperature)

    def table(self) -> Tensor:
        """Dictionary [K, M]."""
        return self.dictionary
