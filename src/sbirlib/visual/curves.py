"""Training curves from a run's log, such as g_i and w_i of the three triplet losses (Huang et al. 2022, figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sbirlib.documents import read_json, read_text
from sbirlib.errors import InputError, nearest
from sbirlib.visual.figures import figure

Record = Mapping[str, Any]
RECORD: TypeAdapter[Record] = TypeAdapter(Mapping[str, Any])


def read_log(path: str | Path) -> list[Record]:
    """Read the records of a run's log.jsonl, from the file or its folder."""
    file = Path(path) / "log.jsonl" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise InputError(f"no log at {file}: train with out=FOLDER, which writes it there")
    return [read_json(line, RECORD, f"{file}, line {number}") for number, line in enumerate(read_text(file).splitlines(), 1)]


def training_curves(runs: Mapping[str, Sequence[Record]], panels: Mapping[str, Sequence[str]]) -> Any:
    """Plot a row for each run and a panel for each title of `panels`, with a curve for each name in it.

    A name is that of a loss, a logged scalar or a validation metric.

    >>> curves = training_curves({"mathm": read_log("runs/mathm")}, {"loss": ["cross_entropy"]})
    >>> curves.savefig("curves.png")
    """
    canvas = figure(4.2 * len(panels), 2.8 * len(runs))
    axes = canvas.subplots(len(runs), len(panels), squeeze=False, sharex="row", sharey="col")
    for row, (name, records) in zip(axes, runs.items(), strict=True):
        if not records:
            raise InputError(f"the log of {name} is empty: train with log_every smaller than the number of steps")
        for axis, (title, quantities) in zip(row, panels.items(), strict=True):
            for quantity in quantities:
                axis.plot(*_curve(records, quantity, name), label=quantity, linewidth=1.2)
            axis.set_title(f"{name}: {title}", fontsize=9)
            axis.set_xlabel("step", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.legend(fontsize=7, loc="upper right")
    return canvas


def _curve(records: Sequence[Record], quantity: str, run: str) -> tuple[list[int], list[float]]:
    """Steps and values of a quantity, from those records that hold it: a record of a step holds no validation metric."""
    scalars = [{**r.get("losses", {}), **r.get("logged", {}), **r.get("validation", {})} for r in records]
    rows = [i for i, values in enumerate(scalars) if quantity in values]
    if not rows:
        raise InputError(f"{run} logged no {quantity!r}{nearest(quantity, set().union(*scalars))}")
    return [int(records[i]["step"]) for i in rows], [float(scalars[i][quantity]) for i in rows]
