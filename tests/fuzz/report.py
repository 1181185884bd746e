"""The table of a run and the list of its failures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tests.fuzz.case import FAILURE, INPUT_ERROR, OTHER, SAME, Outcome
from tests.fuzz.harness import Tally

HEADS = ("target", "cases", "InputError", "same", "other", "failures", "slowest", "largest")


def table(tallies: Sequence[Tally]) -> str:
    """A row for each target."""
    rows = [HEADS, *(_row(tally) for tally in tallies)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell:{'<' if i == 0 else '>'}{width}}" for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )
    return "\n".join(lines)


def _row(tally: Tally) -> tuple[str, ...]:
    counts = [str(tally.verdicts[verdict]) for verdict in (INPUT_ERROR, SAME, OTHER, FAILURE)]
    return tally.target, str(tally.cases), *counts, f"{tally.slowest:.2f} s", f"{tally.memory:.0f} MiB"


def failures(tallies: Sequence[Tally], seed: int) -> str:
    """The failures, those of one exception in one place together, with one example of each."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for tally in tallies:
        for outcome in tally.failures:
            groups[outcome.group].append(outcome)
    parts = []
    for (exception, frame), outcomes in sorted(groups.items(), key=lambda item: -len(item[1])):
        first = min(outcomes, key=lambda outcome: len(outcome.case.entry()))
        targets = ", ".join(sorted({outcome.case.target for outcome in outcomes}))
        parts.append(
            f"{len(outcomes)} x {exception} at {frame or '?'}\n  targets: {targets}\n  message: {first.message}\n"
            f"  case: {first.case.target} {first.case.number}, seed {seed}\n  entry: {_shortened(first.case.entry())}"
        )
    return "\n".join(parts)


def _shortened(entry: str) -> str:
    return entry if len(entry) <= 2000 else f"{entry[:2000]}... ({len(entry)} characters; --save writes it whole)"
