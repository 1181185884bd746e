"""Regression of an embedding to the word vector of its category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from sbirlib.plugin_api import InputError, Loss, Step, at_least_float32, check_labels
from sbirlib_vtd.word_file import read_words


class WordVectors(Loss):
    """mean over rows of |z - v_c|^2: the embedding z goes to v_c, the word vector of its category at unit length (Socher et al. 2013, eq. 1).

    It makes an encoder the descriptor of "Ours-WordVector" (Pang et al. 2019, table 1). A query has no class name here, of which the paper takes
    the vector: that of an unseen category is predicted from the sketch.

    The file has a word a line, then its D numbers (word2vec, GloVe, fastText), and is read when training starts. A name of several words may stand
    there joined by "_" or "-", or it gets their mean. Raises InputError without a file, for words that it lacks, and for other numbers than D.

    Args:
        dim: width D of the embedding, which training fills in
        categories: number of categories, which training fills in
        vectors: path of the text file of word vectors
        words: the word of each training category, in the order of the dataset's `train.categories`

    >>> WordVectors(dim=300, categories=2, vectors="glove.6B.300d.txt", words=["cat", "wine bottle"]).table.shape
    torch.Size([2, 300])
    """

    table: Tensor

    def __init__(
        self, *, dim: Annotated[int, Ge(1)], categories: Annotated[int, Ge(1)], vectors: str | None = None, words: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.vectors, self.words, self.ready = vectors, words, False
        self.register_buffer("table", torch.zeros(categories, dim))

    def load_weights(self) -> None:
        if self.ready:
            return
        categories, dim = self.table.shape
        if self.vectors is None:
            raise InputError("word_vectors has no word vectors: name their file, --set losses.word_vectors.vectors=FILE")
        if len(self.words) != categories:
            raise InputError(
                f"word_vectors has {len(self.words)} words, and there are {categories} training categories: list the word of each as `words`, in "
                "the order of the dataset's train.categories"
            )
        rows = read_words(self.vectors, self.words)
        if rows.shape[1] != dim:
            raise InputError(
                f"{self.vectors} has vectors of {rows.shape[1]} numbers, and the embedding has {dim}: set the descriptor's dim to {rows.shape[1]}"
            )
        self.table.copy_(F.normalize(rows, dim=1))
        self.ready = True

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Count a state with a table as its word vectors, so that a saved model needs no file."""
        self.ready |= getattr(state_dict.get(f"{prefix}table"), "shape", None) == self.table.shape
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, step: Step) -> Tensor:
        """Mean squared distance of the embedding [N, D] from the rows of its categories: a scalar []."""
        self.load_weights()  # where no pipeline has
        embedding, category = at_least_float32(step.features.embedding), step.features.category
        check_labels(category, len(self.table))
        return (embedding - self.table.to(embedding.dtype)[category]).square().sum() / max(len(embedding), 1)
