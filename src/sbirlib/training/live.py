"""Live table of a training on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live as LiveRegion
from rich.table import Table
from rich.text import Text


class Live:
    """Table that is drawn over at each record: terms, values that losses logged, rates, speed, share of time waiting for data, memory."""

    def __init__(self, total: int) -> None:
        self.total, self.start = total, time.monotonic()
        self.first: int | None = None
        self.region = LiveRegion(console=Console(file=sys.stderr), refresh_per_second=4, transient=False)
        self.region.start()

    def show(self, step: int, values: Mapping[str, Any]) -> None:
        """Draw a record of `Log.step`."""
        self.first = step if self.first is None else self.first
        columns = Table.grid(padding=(0, 3))
        columns.add_row(
            *(_table(title, values[key]) for title, key in (("loss", "losses"), ("logged", "logged"), ("rate", "lr")) if values[key])
        )
        self.region.update(Group(Text(self._line(step, values)), columns))

    def close(self) -> None:
        """Leave the last table on the terminal."""
        self.region.stop()

    def _line(self, step: int, values: Mapping[str, Any]) -> str:
        """Progress, speed, waiting and memory, in one line."""
        trained = step - (self.first or 0)
        left = (time.monotonic() - self.start) / trained * (self.total - step) if trained else float("nan")
        rest = f", {int(left) // 60}:{int(left) % 60:02d} left" if trained else ""
        return (
            f"step {step} of {self.total}{rest}   phase {values['phase']}, epoch {values['epoch']}   {values['images_per_second']:.0f} images/s   "
            f"waiting for data {values['waiting']:.0%}   {values['memory'] / 2**30:.2f} GiB"
        )


def _table(title: str, values: Mapping[str, float]) -> Table:
    table = Table(title, "", box=None, padding=(0, 1), header_style="bold")
    for name, value in values.items():
        table.add_row(name, f"{value:.4g}")
    return table
