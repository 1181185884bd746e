"""Time that runs will take, from those that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.experiments import definition, runs, store
from benchmarks.experiments.definition import Experiment, Row

Todo = Sequence[tuple[int, Row]]


def took(run: Mapping[str, Any]) -> float | None:
    """Seconds of a run; None where it failed, or was interrupted."""
    seconds = run.get("seconds", {}).values()
    return None if "error" in run or not seconds or None in seconds else float(sum(seconds))


def expected(experiment: Experiment, todo: Todo, device: str) -> float | None:
    """Seconds of runs that are to be made, each the median of its row's on this kind of device, or else of the experiment's; None without any."""
    times: dict[str, list[float]] = {}
    for run in store.read(experiment.name):
        if (seconds := took(run)) is not None and str(run.get("device", "")).split(":")[0] == device.split(":")[0]:
            times.setdefault(run["row"], []).append(seconds)
    if not times:
        return None
    usual = median(second for own in times.values() for second in own)
    return sum(median(times[row.name]) if row.name in times else usual for _, row in todo)


def clock(seconds: float | None) -> str:
    """Time in words.

    >>> clock(5400), clock(40), clock(None)
    ('1 h 30 min', '1 min', 'unknown')
    """
    if seconds is None:
        return "unknown"
    hours, minutes = divmod(max(round(seconds / 60), 1 if seconds else 0), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def listing(names: Sequence[str], device: str) -> str:
    """Experiments with the numbers of their rows, their runs and those without a result, and the time that these will take on the device."""
    lines: list[tuple[str, ...]] = [("experiment", "rows", "runs", "to make", "time", "question")]
    for name in names:
        experiment = definition.read(name)
        todo = [] if experiment.closed else runs.pending(experiment, list(experiment.rows), range(experiment.seeds), retry=False)
        time = "closed" if experiment.closed else clock(expected(experiment, todo, device) if todo else 0.0)
        counts = [str(len(experiment.rows)), str(len(experiment.rows) * experiment.seeds), str(len(todo))]
        lines.append((name, *counts, time, experiment.title))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(line[:5], widths, strict=True)), line[5]]) for line in lines)
