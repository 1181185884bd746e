"""Stand-in of torch._dynamo, the compiler, until something is compiled: its import takes seconds, and torch's optimizers and timm ask for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial, wraps
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["postpone"]

COMPILER = "torch._dynamo"


class _Postponed(ModuleType):
    """A module until something is asked of it that it does not know: from then on the true one is in its place."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and f"{self.__name__}.{name}" != f"{COMPILER}.__path__":
            raise AttributeError(name)
        _withdraw()
        return getattr(import_module(self.__name__), name)


def postpone() -> None:
    """Put the stand-in in the compiler's place, unless that is imported.

    It serves who excludes a function from compilation, breaks a graph, or asks whether a device can compile.
    """
    if COMPILER in sys.modules:
        return
    compiler, utils = _Postponed(COMPILER), _Postponed(f"{COMPILER}.utils")
    vars(compiler).update(disable=_disable, graph_break=lambda *_, **__: None, utils=utils)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    sys.modules |= {module.__name__: module for module in (compiler, utils)}


def _withdraw() -> None:
    for name in [name for name, module in sys.modules.items() if isinstance(module, _Postponed)]:
        del sys.modules[name]


def _disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **options: Any) -> Any:
    """The function, run as it is while nothing is compiled, and by the compiler's own `disable` from then on."""
    if fn is None:
        return partial(_disable, recursive=recursive, **options)

    @cache
    def excluded() -> Callable[..., Any]:
        exclusion: Callable[..., Any] = import_module(COMPILER).disable(fn, recursive, **options)
        return exclusion

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (fn if isinstance(sys.modules.get(COMPILER), _Postponed) else excluded())(*args, **kwargs)

    return call


def _is_compile_supported(device_type: str) -> bool:
    _withdraw()
    return bool(import_module(f"{COMPILER}.utils").is_compile_supported(device_type))
