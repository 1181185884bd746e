"""Matplotlib figures, with the extra `figures`: `pip install sbirlib[figures]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sbirlib.errors import InputError
from sbirlib.files import atomic_write


def figure(width: float, height: float) -> Any:
    """An empty figure of this width and height in inches, which needs no display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib, which is not installed: pip install 'sbirlib[figures]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(canvas: Any, path: str | Path) -> None:
    """Write a PNG, atomically."""
    with atomic_write(path) as partial:
        canvas.savefig(partial, format="png", dpi=110)
