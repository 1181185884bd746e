"""Mean of gradients over processes, in messages of many parameters that overlap the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.profiler import record_function

from sbirlib.processes import world_size

BYTES = 25 * 2**20  # of a message, as in DistributedDataParallel


@contextmanager
def averaged(parameters: Iterable[nn.Parameter], *, overlap: bool) -> Iterator[None]:
    """After the block, in which a backward pass runs, every gradient is its mean over processes; one that no process has stays missing.

    With `overlap` a message is sent as soon as its gradients are there, which all processes must compute in one order.
    """
    if world_size() == 1:
        yield
        return
    messages = _messages([parameter for parameter in parameters if parameter.requires_grad])
    pending = {parameter: message for message in messages for parameter in message.parameters}
    sent = 0

    def send(parameter: Tensor) -> None:
        nonlocal sent
        pending[cast(nn.Parameter, parameter)].missing.discard(parameter)
        while sent < len(messages) and not messages[sent].missing:
            messages[sent].send()
            sent += 1

    hooks = [parameter.register_post_accumulate_grad_hook(send) for parameter in pending] if overlap else []
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    with record_function("sbirlib:average"):
        for message in messages[sent:]:
            message.send()
        counts = torch.tensor([parameter in message.own for message in messages for parameter in message.parameters], dtype=torch.int32)
        dist.all_reduce(counts)
        present = iter(counts.tolist())
        for message in messages:
            message.receive([bool(next(present)) for _ in message.parameters])


def _messages(parameters: list[nn.Parameter]) -> list[_Message]:
    """Parameters in messages of at most `BYTES` and one dtype, the last first, as backward passes reach them."""
    messages: list[_Message] = []
    for parameter in reversed(parameters):
        last = messages[-1] if messages else None
        if last is None or last.parameters[0].dtype != parameter.dtype or last.size + parameter.nbytes > BYTES:
            messages.append(last := _Message())
        last.parameters.append(parameter)
        last.missing.add(parameter)
    return messages


class _Message:
    """Gradients of some parameters on their way."""

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.missing: set[Tensor] = set()
        self.own: set[Tensor] = set()
        self.flat: Tensor = torch.empty(0)
        self.work: Any = None

    @property
    def size(self) -> int:
        return sum(parameter.nbytes for parameter in self.parameters)

    def send(self) -> None:
        self.own = {parameter for parameter in self.parameters if parameter.grad is not None}
        self.flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self.parameters])
        self.work = dist.all_reduce(self.flat, async_op=True)

    def receive(self, present: list[bool]) -> None:
        self.work.wait()
        means = (self.flat / world_size()).split([parameter.numel() for parameter in self.parameters])
        for parameter, mean, there in zip(self.parameters, means, present, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(mean.view(parameter.shape)) if there else None
