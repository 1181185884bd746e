"""Initial weight of the embedding layer: random, or from an SVD of the pretrained classifier."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sbirlib.errors import InputError

Start = Literal["random", "svd"]
RANDOM = 'or take start="random"'


def check_start(start: Start, *, dim: int, pretrained: bool) -> None:
    """Raise InputError for a start from the classifier without an embedding layer, or without pretrained weights."""
    if start == "svd" and not dim:
        raise InputError(f'start = "svd" initialises the embedding layer, which dim = 0 leaves out: set dim, {RANDOM}')
    if start == "svd" and not pretrained:
        raise InputError(
            f'start = "svd" needs the classifier of pretrained weights: set pretrained = true, give weights = FILE with a classifier, {RANDOM}'
        )


def start_from_classifier(embedding: nn.Module, tensors: Mapping[str, Tensor], layers: str | Sequence[str] | None, *, source: str) -> None:
    """Initialise an embedding layer W [D, C], b [D] from the classifier among the tensors of a weights file; `layers` is its name.

        W = Q svd_map(A, D)        b = 0

    of the classifier's weight A [K, C]; its bias is not used. Q [D, D] is the orthogonal factor of the layer's random weight: without it the
    first coordinates have most of the energy. Raises InputError for tensors without a classifier [K, C].
    """
    names = [layers] if isinstance(layers, str) else layers or []
    classifier = tensors.get(f"{names[0]}.weight") if len(names) == 1 else None
    if classifier is None:
        raise InputError(f'start = "svd" needs a classifier, and the weights in {source!r} have none: give weights with one, {RANDOM}')
    classifier = classifier.flatten(1)  # of timm, some are convolutions [K, C, 1, 1]
    start = embedding.get_parameter("weight").detach()
    dim, width = start.shape
    if classifier.shape[1] != width:
        raise InputError(
            f'start = "svd" needs a classifier of the backbone\'s {width} features, and {names[0]} in {source!r} '
            f"maps {classifier.shape[1]}: give other weights, {RANDOM}"
        )
    rotation = torch.linalg.qr(start[:, :dim].cpu().double()).Q
    embedding.load_state_dict({"weight": rotation @ svd_map(classifier.double(), dim), "bias": torch.zeros(dim)})


def svd_map(classifier: Tensor, dim: int) -> Tensor:
    """M [D, C] whose inner products (M x).(M y) are r^2 times those of the best approximation of rank D to a classifier A [K, C].

        A = U S V^T        M = r S_D V_D^T        r = sum_i s_i / sum_(i <= D) s_i

    with the D largest singular values s_i; r keeps the size of the logits (Huang et al. 2022, released code). Raises InputError where D is
    above the rank of A.

    >>> svd_map(torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]), dim=1).abs()
    tensor([[0., 3.]])
    """
    _, values, directions = torch.linalg.svd(classifier, full_matrices=False)
    rank = int((values > values[0] * max(classifier.shape) * torch.finfo(torch.float32).eps).sum())
    if dim > rank:
        raise InputError(
            f'start = "svd" gives at most the rank of the classifier, {rank}, and dim = {dim}: set dim = {rank} or less, {RANDOM}'
        )
    largest = values[:dim]
    scaled: Tensor = values.sum() / largest.sum() * largest[:, None] * directions[:dim]
    return scaled
