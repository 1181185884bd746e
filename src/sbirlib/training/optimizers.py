"""Optimizers of torch by name, with the options that recipes use."""

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval

from sbirlib.options import Betas

Rate = Annotated[float, Ge(0)]


def adam(parameters: Iterable[Any], *, lr: Rate = 1e-4, weight_decay: Rate = 0.0, betas: Betas = (0.9, 0.999)) -> torch.optim.Adam:
    """Adam (Kingma and Ba 2014), weight decay added to the gradient.

    Args:
        lr: learning rate
        weight_decay: L2 penalty, whose gradient is added
        betas: decay rates of the two moments
    """
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]), fused=True)


def adamw(parameters: Iterable[Any], *, lr: Rate = 1e-4, weight_decay: Rate = 1e-2, betas: Betas = (0.9, 0.999)) -> torch.optim.AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        lr: learning rate
        weight_decay: decay of the weights a step, times the learning rate
        betas: decay rates of the two moments
    """
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]), fused=True)


def sgd(
    parameters: Iterable[Any],
    *,
    lr: Rate = 1e-2,
    weight_decay: Rate = 0.0,
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
    nesterov: bool = False,
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate
        weight_decay: L2 penalty, whose gradient is added
        momentum: decay rate of the velocity; 0 leaves momentum out
        nesterov: Nesterov's momentum
    """
    # not fused, which would fail where a parameter thaws, and so lacks the velocity that others have
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov)
