"""A bound on the memory that a stored recipe may ask for: a file of a few bytes cannot declare a model of many gigabytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sbirlib.errors import InputError

SLACK = 2**28  # bytes beyond what the file's own size explains: buffers that are not stored, values drawn and dropped
TIMES = 8  # of the file's bytes; models take 2, for they are initialised before their state is loaded
CALLS, CALLS_A_TENSOR = 20_000, 50  # tensors that a model may make while it is built, beyond and for each tensor in its file; models make 4


@contextmanager
def limited_to(tensors: Mapping[str, Tensor], source: Any, *, further: int = 0, count: int = 0) -> Iterator[None]:
    """Raise InputError where the block makes many times the bytes of these tensors, of any shape, before the memory is taken.

    `further` bytes, of `count` tensors, are in other files.
    """
    size, count = further + sum(tensor.nbytes for tensor in tensors.values()), count + len(tensors)
    message = f"{source} holds {size} bytes of weights, and its recipe asks for a model of many more: it is damaged"
    with _Limit(SLACK + TIMES * size, CALLS + CALLS_A_TENSOR * count, message):
        yield


class _Limit(TorchDispatchMode):
    def __init__(self, limit: int, calls: int, message: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left, self.calls, self.message = limit, calls, message

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        makes = any(argument.name == "device" for argument in func._schema.arguments)
        if makes and options.get("device") != torch.device("meta"):
            form = func(*args, **{k: v for k, v in options.items() if k != "pin_memory"} | {"device": "meta"})
            self._count(storage.nbytes() for storage in _storages(form))
        output = func(*args, **options)
        if not makes:
            inputs = {storage.data_ptr() for storage in _storages((args, options))}
            self._count(storage.nbytes() for storage in _storages(output) if storage.data_ptr() not in inputs)
        return output

    def _count(self, sizes: Iterable[int]) -> None:
        self.left -= sum(sizes)
        self.calls -= 1
        if self.left < 0 or self.calls < 0:
            raise InputError(self.message)


def _storages(value: Any) -> list[torch.UntypedStorage]:
    """The storages of the dense tensors in a value."""
    return [leaf.untyped_storage() for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.layout == torch.strided]
