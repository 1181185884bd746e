"""Sketch-based image retrieval: `build("mathm")`, `fit`, `evaluate`, `index`, `search`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbirlib.data.folder import folder, from_lists
    from sbirlib.data.split import split
    from sbirlib.data.synthetic import synthetic
    from sbirlib.errors import InputError
    from sbirlib.opening import load, open_index
    from sbirlib.pipeline import Pipeline, build
    from sbirlib.registry import list_parts
    from sbirlib.spec import part

_MODULES = {
    "sbirlib.opening": ("load", "open_index"),
    "sbirlib.pipeline": ("Pipeline", "build"),
    "sbirlib.registry": ("list_parts",),
    "sbirlib.spec": ("part",),
    "sbirlib.data.folder": ("folder", "from_lists"),
    "sbirlib.data.split": ("split",),
    "sbirlib.data.synthetic": ("synthetic",),
    "sbirlib.errors": ("InputError",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["InputError", "Pipeline", "build", "folder", "from_lists", "list_parts", "load", "open_index", "part", "split", "synthetic"]


def __getattr__(name: str) -> Any:
    """Import on first use: `import sbirlib` pulls in neither torch nor timm nor faiss."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("sbirlib")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'sbirlib' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
