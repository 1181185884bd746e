"""Mean of gradients over processes, in messages of many parameters that overlap the backward pass; and buffers that all share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.profiler import record_function

from sbirlib.processes import world_size
from sbirlib.training.sharding import is_divided

BYTES = 25 * 2**20  # of a message, as in DistributedDataParallel


@contextmanager
def averaged(parameters: Iterable[nn.Parameter], *, overlap: bool) -> Iterator[None]:
    """After the block, in which a backward pass runs, every gradient is its mean over processes; one that no process has stays missing.

    Those of divided parameters are so already (`Shards`).

    With `overlap` a message is sent as soon as its gradients are there, which all processes must compute in one order.
    """
    if world_size() == 1:
        yield
        return
    messages = _messages([parameter for parameter in parameters if parameter.requires_grad and not is_divided(parameter)])
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
        for message in messages:
            message.receive()


def share_buffers(module: nn.Module) -> None:
    """Give all processes the buffers of rank 0, the one that saves: batch norms of each process alone have running statistics of its own."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


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
        self.there: list[bool] = []
        self.flat: Tensor = torch.empty(0)
        self.work: Any = None

    @property
    def size(self) -> int:
        return sum(parameter.nbytes for parameter in self.parameters)

    def send(self) -> None:
        """Send the gradients, and behind them a one for each that is there."""
        gradients = [parameter.grad for parameter in self.parameters]
        self.there = [gradient is not None for gradient in gradients]
        values = [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(self.parameters, gradients, strict=True)]
        self.flat = torch.cat([*values, torch.tensor(self.there).to(values[0])])
        self.work = dist.all_reduce(self.flat, async_op=True)

    def receive(self) -> None:
        """Set the gradients to their means; of a missing one it is read whether another process has it."""
        self.work.wait()
        *sums, counts = self.flat.split([*(parameter.numel() for parameter in self.parameters), len(self.parameters)])
        there = self.there if all(self.there) else counts.gt(0).tolist()
        for parameter, total, known in zip(self.parameters, sums, there, strict=True):
            mean = (total / world_size()).view(parameter.shape)
            parameter.grad = torch.empty_like(parameter).copy_(mean) if known else None
