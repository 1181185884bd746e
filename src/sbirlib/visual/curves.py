"""Training curves from logs: losses, rates and validation metrics, of one run or of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter

from sbirlib.documents import Count, read_json, read_text
from sbirlib.errors import InputError, nearest
from sbirlib.retrieval.exact.per_query import CLASS
from sbirlib.visual.figures import figure

Array = NDArray[np.float64]
Record = Mapping[str, Any]
Numbers = dict[str, float]
LEFT_OUT = "_left_out"  # ends the name of a count of queries
FEW = 30  # points of a curve below which each is marked


class _Record(BaseModel):
    """A line of a log; other keys may stand beside these."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    step: Count
    losses: Numbers = {}
    logged: Numbers = {}
    validation: Numbers = {}


RECORD = TypeAdapter(_Record)


def read_log(path: str | Path) -> list[Record]:
    """Read the records of a run's log.jsonl, from the file or its folder."""
    file = Path(path) / "log.jsonl" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise InputError(f"no log at {file}: train with out=FOLDER, which writes it there")
    lines = enumerate(read_text(file).splitlines(), 1)
    return [read_json(line, RECORD, f"{file}, line {number}").model_dump(exclude_unset=True) for number, line in lines]


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


def compared_curves(runs: Mapping[str, Sequence[Record]], *, columns: int = 3) -> Any:
    """Plot a panel for each loss and each validation metric, with a curve for each run that logged it.

    A metric's mean over classes is a dashed curve in the panel of its mean over queries.

    >>> compared_curves({"mathm": read_log("runs/mathm")}).savefig("curves.png")
    """
    names = {
        part: list(dict.fromkeys(n for own in runs.values() for r in own for n in r.get(part, {}))) for part in ("losses", "validation")
    }
    metrics = [n for n in names["validation"] if not n.endswith(LEFT_OUT) and n.removeprefix(CLASS) not in set(names["validation"]) - {n}]
    panels = [*names["losses"], *metrics]
    if not panels:
        raise InputError("the logs of these runs are empty: train with log_every smaller than the number of steps")
    columns = min(columns, len(panels))
    canvas = figure(4.2 * columns, 2.8 * math.ceil(len(panels) / columns))
    for number, panel in enumerate(panels, 1):
        axis = canvas.add_subplot(math.ceil(len(panels) / columns), columns, number)
        for colour, (run, records) in enumerate(runs.items()):
            for name, style in ((panel, "-"), (f"{CLASS}{panel}", "--")):
                if any(name in _scalars(r) for r in records):
                    steps, values = _curve(records, name, run)
                    marker = "." if len(steps) < FEW else None
                    axis.plot(
                        steps, values, style, color=f"C{colour % 10}", label=run if name == panel else None, linewidth=1.2, marker=marker
                    )
        axis.set_title(f"{panel}, validation" if number > len(names["losses"]) else panel, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7)
    return canvas


def rate_curve(rates: Array, losses: Array, smoothed: Array, marks: Mapping[str, float]) -> Any:
    """Plot losses [n] and their smoothed curve [n] over learning rates [n], with a vertical line at each rate of `marks`.

    >>> rates = np.logspace(-5, 0, 20)
    >>> rate_curve(rates, rates, rates, {"suggested": 1e-3}).savefig("rates.png")
    """
    canvas = figure(6.4, 4.0)
    axis = canvas.subplots()
    axis.plot(rates, losses, ".", color="C0", alpha=0.35, markersize=4)
    axis.plot(rates, smoothed, color="C0", linewidth=1.5)
    for colour, (name, rate) in enumerate(marks.items(), 1):
        axis.axvline(rate, color=f"C{colour}", linewidth=1.2, linestyle="--", label=f"{name} {rate:.2g}")
    first = float(losses[: max(1, len(losses) // 4)].mean())
    room = max(first - float(smoothed.min()), abs(first) / 4, 1e-6)  # so that a divergence does not flatten the rest
    axis.set_ylim(float(min(smoothed.min(), losses.min())) - 0.1 * room, first + 2 * room)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate", fontsize=8)
    axis.set_ylabel("loss", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8)
    return canvas


def _scalars(record: Record) -> dict[str, float]:
    return {**record.get("losses", {}), **record.get("logged", {}), **record.get("validation", {})}


def _curve(records: Sequence[Record], quantity: str, run: str) -> tuple[list[int], list[float]]:
    """Steps and values of a quantity, from those records that hold it: a record of a step holds no validation metric."""
    scalars = [_scalars(record) for record in records]
    rows = [i for i, values in enumerate(scalars) if quantity in values]
    if not rows:
        raise InputError(f"{run} logged no {quantity!r}{nearest(quantity, set().union(*scalars))}")
    return [int(records[i]["step"]) for i in rows], [float(scalars[i][quantity]) for i in rows]
