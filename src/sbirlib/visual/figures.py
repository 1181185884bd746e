"""Matplotlib, which only figures need: `pip install sbirlib[figures]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sbirlib.errors import InputError
from sbirlib.files import atomic_write


def figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, which needs no display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures are drawn by matplotlib, which is not installed: pip install 'sbirlib[figures]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(drawn: Any, path: str | Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic_write(path) as partial:
        drawn.savefig(partial, format="png", dpi=110)
