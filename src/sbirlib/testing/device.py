"""Tensors of another device on a machine that has none: they name the device "meta", and their values are on the CPU.

So a component runs to its end, whatever it reads from its tensors, and an operation on tensors of both devices is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

META, CPU = torch.device("meta"), torch.device("cpu")
# as on any accelerator: these take indices or values of the CPU
FROM_CPU = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::copy_")


class DevicesMixed(BaseException):
    """An operation on tensors of two devices, in words; no component's own `except Exception` catches it."""


class Elsewhere(Tensor):
    """A tensor of any shape that is on the device "meta" by name; its values are `on_cpu`."""

    on_cpu: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, values: Tensor) -> Elsewhere:
        strides, offset = values.stride(), int(values.storage_offset())
        tensor: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=strides, storage_offset=offset, dtype=values.dtype, device=META
        )
        tensor.on_cpu = values
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        with _Operations():
            return func(*args, **(kwargs or {}))

    def tolist(self) -> Any:
        return self.on_cpu.tolist()

    def numpy(self, **_: Any) -> Any:
        raise DevicesMixed("numpy() reads a tensor of another device")


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Let tensors on the device "meta" have values; an operation that mixes devices raises DevicesMixed."""
    autocast = torch.autocast

    def without_meta(device_type: str, *arguments: Any, **options: Any) -> Any:
        return contextlib.nullcontext() if device_type == META.type else autocast(device_type, *arguments, **options)

    with mock.patch.object(torch, "autocast", without_meta), _Literals(), _Operations():
        yield


class _Literals(TorchFunctionMode):
    """Tensors of Python's numbers, which torch makes without a dispatch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and torch.device(kwargs.get("device") or CPU) == META:
            return func(*args, **{**kwargs, "device": CPU}).to(META)
        if func is Tensor.new_tensor and isinstance(args[0], Elsewhere):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(META)
        if func is Tensor.__getitem__ and isinstance(args[0], Elsewhere) and isinstance(args[1], list):
            return args[0].on_cpu[args[1]].to(META)
        return func(*args, **kwargs)


class _Operations(TorchDispatchMode):
    """Each operation runs on the values, and its results are on the device where they would be."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func._schema.name
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        theirs = {id(t.on_cpu): t for t in operands if isinstance(t, Elsewhere)}
        ours = [t for t in operands if not isinstance(t, Elsewhere)]
        if theirs and any(t.ndim for t in ours) and not (name in FROM_CPU and (isinstance(args[0], Elsewhere) or name == "aten::copy_")):
            raise DevicesMixed(f"{name.partition('::')[2]} meets a tensor of the CPU while its inputs are on another device")
        if any(t.is_meta for t in ours):
            raise NotImplementedError(f"torch made a tensor without values for {name}")
        there = bool(theirs)
        if kwargs.get("device") is not None:
            there, kwargs["device"] = kwargs["device"] == META, CPU
        args, kwargs = tree_map(lambda v: v.on_cpu if isinstance(v, Elsewhere) else v, (args, kwargs))

        def placed(value: Any) -> Any:
            if not isinstance(value, Tensor) or not there or any(value is t for t in ours):
                return value
            return theirs[id(value)] if id(value) in theirs else Elsewhere(value)

        return tree_map(placed, func(*args, **kwargs))
