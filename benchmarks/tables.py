"""docs/results.md from the run store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import experiment as experiments
import store
from compare import Difference, paired
from experiment import Claim, Experiment, measured_by
from sbirlib.files import atomic_write

RESULTS = Path(__file__).parent.parent / "docs" / "results.md"
HEAD = """# Results

Rendered by `python benchmarks/run_all.py --render` from the runs in `benchmarks/results`; no figure here was typed. Every row of a table was trained
on the same batches for each seed and asked the same queries. A difference is against the row named above its column, paired by seed and query;
its interval is a bootstrap of 95 % over seeds, classes and queries; in brackets stands the smallest true difference that would have been seen
four times in five. **Bold**: the interval leaves out zero. Training times are of runs that nothing stopped in between. The paper's figures are
of other data and other training, as said below each table.
"""

Runs = Mapping[str, Mapping[int, Mapping[str, Any]]]


def render() -> None:
    """Write the page whole."""
    all_of_them = [experiments.read(name) for name in experiments.names()]
    parts = [HEAD, summary(all_of_them), *map(table, all_of_them)]
    with atomic_write(RESULTS) as partial:
        partial.write_text("\n".join(parts), encoding="utf-8")
    print(f"tables: {RESULTS.relative_to(RESULTS.parent.parent)}")


def summary(every: Sequence[Experiment]) -> str:
    """Which row is ahead in each experiment that has runs on the test part, and how its paper's claims fared."""
    lines = ["| experiment | ahead | | claims that hold | that do not | undecided | not run |", "| --- | --- | ---: |" + " ---: |" * 4]
    for found in every:
        runs, first = stored(found), found.metrics[0]
        means = {row: np.mean([r["metrics"][first] for r in mine]) for row, mine in finished(runs).items()}
        if means and found.part == "test":
            ahead = max(means, key=lambda row: means[row])
            fates = [fate(compared(runs, claim.better, claim.worse, first)) for claim in found.claims]
            counts = [str(fates.count(each)) for each in ("holds", "does not hold", "not decided", "not run yet")] if fates else [""] * 4
            lines.append(f"| [{found.title}](#{anchor(found.title)}) | {ahead} | {first} {means[ahead]:.3f} | " + " | ".join(counts) + " |")
    return "\n".join([*lines, ""])


def anchor(title: str) -> str:
    """The address of a heading, as it is made of its text."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def stored(found: Experiment) -> Runs:
    """The runs of an experiment, by row and seed."""
    runs: dict[str, dict[int, dict[str, Any]]] = {row.name: {} for row in found.rows}
    for result in store.read(found.name):
        runs.setdefault(result["row"], {})[result["seed"]] = result
    return runs


def finished(runs: Runs) -> dict[str, list[Mapping[str, Any]]]:
    """Of each row that has some, the runs without an error."""
    done = {row: [r for r in mine.values() if "error" not in r] for row, mine in runs.items()}
    return {row: mine for row, mine in done.items() if mine}


def fate(seen: Difference | None) -> str:
    if seen is None:
        return "not run yet"
    return "not decided" if not seen.sure else "holds" if seen.mean > 0 else "does not hold"


def table(found: Experiment) -> str:
    """One experiment's table with its conditions; rows without a run are said to be so."""
    runs = stored(found)
    papers = list(dict.fromkeys(condition for row in found.rows for condition in row.paper))
    first = found.metrics[0]
    also = [(kind, metric) for kind, evaluator in found.also.items() for metric in measured_by(evaluator)]
    also += [(asked, first) for asked in dict.fromkeys(asked for row in found.rows for asked in row.asked)]
    coded = [f"{first}, {found.code_bits}-bit codes"] if found.code_bits else []
    heads = ["row", *found.metrics, f"{first}, difference to {found.against}", *(f"{metric}, {kind}" for kind, metric in also), *coded]
    heads += ["seeds", "training, s", *(f"paper: {p}" for p in papers)]
    lines = [f"## {found.title}", "", "| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for row in found.rows:
        mine = {seed: r for seed, r in runs[row.name].items() if "error" not in r}
        failed = [r["error"] for r in runs[row.name].values() if "error" in r]
        cells = [row.name, *(spread([r["metrics"][m] for r in mine.values()]) for m in found.metrics)]
        cells += [
            difference(runs, row.name, found.against, first),
            *(spread([r["also"][kind][metric] for r in mine.values() if kind in r["also"]]) for kind, metric in also),
            *(spread([r["codes"][first] for r in mine.values() if r["codes"]]) for _ in coded),
            str(len(mine)),
            spread([seconds for r in mine.values() if (seconds := r["seconds"]["training"]) is not None], 0),
        ]
        cells += [f"{row.paper[p]:.4f}" if p in row.paper else "" for p in papers]
        lines.append("| " + " | ".join(cells) + " |")
        lines += [f"| {row.name}: failed | {error[:120].replace('|', '/')} |" + " |" * (len(heads) - 2) for error in failed]
    claimed = [f"- {claim.says} ({claim.where}): {verdict(runs, claim, first)}" for claim in found.claims]
    return "\n".join([*lines, "", conditions(runs), "", found.note, "", *claimed, ""])


def verdict(runs: Runs, claim: Claim, metric: str) -> str:
    """Whether what a paper says holds here, in one line."""
    seen = compared(runs, claim.better, claim.worse, metric)
    said = fate(seen)
    if seen is None:
        return f"{said}."
    figures = f"{metric} {seen.mean:+.3f} ({seen.low:+.3f} to {seen.high:+.3f}), {seen.seeds} seed{'s' * (seen.seeds > 1)}"
    if not seen.sure:
        return f"{said}: {figures}; a true difference of {seen.detectable:.3f} would have been seen four times in five."
    return f"**{said}** here: {figures}."


def difference(runs: Runs, row: str, against: str, metric: str) -> str:
    found = None if row == against else compared(runs, row, against, metric)
    if found is None:
        return ""
    text = f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}) [{found.detectable:.3f}]"
    return f"**{text}**" if found.sure else text


def compared(runs: Runs, row: str, against: str, metric: str) -> Difference | None:
    """The paired difference of two rows; None where they have no seed in common."""
    ours, theirs = ({s: r["queries"] for s, r in runs[name].items() if "error" not in r} for name in (row, against))
    if not ours.keys() & theirs.keys():
        return None
    category: Sequence[int] = next(iter(theirs.values()))["category"]
    return paired({s: q[metric] for s, q in ours.items()}, {s: q[metric] for s, q in theirs.items()}, category)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The mean, and the deviation between seeds where there are several."""
    if not values:
        return ""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def conditions(runs: Runs) -> str:
    """What was run, from the results themselves."""
    done = [r for mine in finished(runs).values() for r in mine]
    if not done:
        return "Not run yet."
    one = next((r for r in done if r["log"]), done[0])
    recipe, data = one["recipe"], one["data"]
    steps = ", ".join(str(phase["steps"]) for phase in recipe["phases"])
    said = [
        f"{data['name']}, split {data['split']} ({data['digest'][:12]}), {data.get('part', 'test')} part",
        f"{data['queries']} queries, {data['photos']} photos",
        f"{recipe['encoder'].get('backbone', recipe['encoder']['name'])} at {recipe['transform']['size']} px, {steps} steps",
        "devices: " + ", ".join(sorted({r["device"] for r in done})),
        "Python " + ", ".join(sorted({r["python"] for r in done})),
        ", ".join(f"{k} {v}" for k, v in one["versions"].items() if k != "sbirlib"),
        "commits: " + ", ".join(sorted({r["commit"] + "+" * r["changed"] for r in done})),
    ]
    return "; ".join(said) + "."
