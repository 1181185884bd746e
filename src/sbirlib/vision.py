"""timm and torchvision, imported without torch._dynamo, the compiler: seconds of import for what is needed only where a model is compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from torch._compile import _disable_dynamo

__all__ = ["functional", "timm"]

COMPILER = "torch._dynamo"


class _Postponed(ModuleType):
    """Stand-in of a module while others are imported: of what it does not know it imports the true one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and f"{self.__name__}.{name}" != f"{COMPILER}.__path__":
            raise AttributeError(name)
        _withdraw()
        return getattr(import_module(self.__name__), name)


def _withdraw() -> None:
    for name in [name for name, module in sys.modules.items() if isinstance(module, _Postponed)]:
        del sys.modules[name]


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Import others with two functions of torch._dynamo in its place, each of which imports it when it is called first.

    timm excludes a function from compilation, and torchvision asks whether a device can compile.
    """
    if COMPILER in sys.modules:
        yield
        return

    def is_compile_supported(device_type: str) -> bool:
        return bool(import_module(f"{COMPILER}.utils").is_compile_supported(device_type))

    def disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **_: Any) -> Any:
        return _disable_dynamo(fn, recursive)  # torch's own way of doing so at the first call

    compiler, utils = _Postponed(COMPILER), _Postponed(f"{COMPILER}.utils")
    vars(compiler).update(disable=disable, utils=utils)
    vars(utils).update(is_compile_supported=is_compile_supported)
    sys.modules |= {module.__name__: module for module in (compiler, utils)}
    try:
        yield
    finally:
        _withdraw()


with _without_compiler():
    import timm
    from torchvision.transforms.v2 import functional
