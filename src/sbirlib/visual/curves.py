"""Training curves from a run's log, such as g_i and w_i of the three triplet losses (Huang et al. 2022, figure 4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sbirlib.errors import InputError, nearest
from sbirlib.visual.figures import figure

Record = Mapping[str, Any]


def read_log(path: str | Path) -> list[Record]:
    """Read the records of a run's log.jsonl, from the file or its folder."""
    file = Path(path) / "log.jsonl" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise InputError(f"no log at {file}: train with out=FOLDER, which writes it there")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def training_curves(runs: Mapping[str, Sequence[Record]], panels: Mapping[str, Sequence[str]]) -> Any:
    """Plot a row for each run and a panel for each title of `panels`, with a curve for each name in it: a loss or a logged scalar.

    >>> runs = {"mathm": read_log("runs/mathm")}  # doctest: +SKIP
    >>> save_figure(training_curves(runs, {"g": ["g_cross", "g_within"], "loss": ["cross_entropy"]}), "curves.png")  # doctest: +SKIP
    """
    canvas = figure(4.2 * len(panels), 2.8 * len(runs))
    axes = canvas.subplots(len(runs), len(panels), squeeze=False, sharex="row", sharey="col")
    for row, (name, records) in zip(axes, runs.items(), strict=True):
        if not records:
            raise InputError(f"the log of {name} is empty: train with log_every smaller than the number of steps")
        for axis, (title, quantities) in zip(row, panels.items(), strict=True):
            for quantity in quantities:
                axis.plot([r["step"] for r in records], [_value(r, quantity, name) for r in records], label=quantity, linewidth=1.2)
            axis.set_title(f"{name}: {title}", fontsize=9)
            axis.set_xlabel("step", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.legend(fontsize=7, loc="upper right")
    return canvas


def _value(record: Record, quantity: str, run: str) -> float:
    scalars = {**record.get("losses", {}), **record.get("logged", {})}
    if quantity not in scalars:
        raise InputError(f"{run} logged no {quantity!r}{nearest(quantity, scalars)}")
    return float(scalars[quantity])
