"""Fixed random dictionary: hard assignment, Gumbel-softmax, and re-initialisation of dead codes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_rows(rows: int, dim: int) -> Tensor:
    """Codes [K, M] from N(0, 1), each of unit length (Pang et al. 2019, section 3.1)."""
    return F.normalize(torch.randn(rows, dim), dim=1)


def one_hot(logits: Tensor) -> Tensor:
    """onehot(argmax p) [B, K] of logits [B, K] (eq. 1); of equals the first."""
    return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


def gumbel_one_hot(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """onehot(argmax softmax((p + g) / t)) of logits [B, K] forward, the softmax's gradient backward, g from Gumbel(0, 1) (eq. 3)."""
    uniform = torch.rand_like(logits).clamp_(min=torch.finfo(logits.dtype).tiny)
    gumbel = -torch.log((-torch.log(uniform)).clamp_(min=torch.finfo(logits.dtype).tiny))
    soft = ((logits + gumbel) / temperature).softmax(1)
    return one_hot(soft) - soft.detach() + soft


def reinitialise_dead(dictionary: Tensor, counts: Tensor, *, noise: float, seed: int) -> Tensor:
    """Dictionary [K, M] with its dead codes, by counts [K], re-initialised from the most used code D_i as D_i (1 + noise N(0, 1)).

    The noise depends on `seed` alone, so that all processes have the same. Without any count nothing changes.
    """
    dead = counts == 0
    if not bool((counts > 0).any()):
        return dictionary
    normal = torch.randn(dictionary.shape, generator=torch.Generator().manual_seed(seed)).to(dictionary)
    return torch.where(dead[:, None], dictionary[counts.argmax()] * (1 + noise * normal), dictionary)
