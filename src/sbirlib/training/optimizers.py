"""Optimizers of torch under names, with the options that recipes use."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch


def adam(
    parameters: Iterable[Any], *, lr: float = 1e-4, weight_decay: float = 0.0, betas: Sequence[float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Adam (Kingma and Ba 2014), weight decay added to the gradient."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]), fused=True)


def adamw(
    parameters: Iterable[Any], *, lr: float = 1e-4, weight_decay: float = 1e-2, betas: Sequence[float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]), fused=True)


def sgd(
    parameters: Iterable[Any], *, lr: float = 1e-2, weight_decay: float = 0.0, momentum: float = 0.9, nesterov: bool = False
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, fused=True)
