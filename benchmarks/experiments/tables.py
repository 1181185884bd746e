"""The results page, docs/results.md, rendered from the results store."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from benchmarks.experiments import factorial
from benchmarks.experiments.definition import Claim, Experiment, Row, metrics_of
from benchmarks.experiments.folders import FOLDERS
from benchmarks.experiments.verdicts import VERDICTS, Run, Runs, difference, finished, least, runs_of, shown, verdict
from sbirlib.files import atomic_write
from sbirlib.retrieval.paired import class_mean

HEAD = """# Results

Rendered by `python benchmarks/run_all.py --render` from the runs in `benchmarks/results`; no figure here was typed. Every row of a table was trained
on the same batches for each seed and asked the same queries. A difference is against the row named above its column, paired by seed and query;
its interval of 95 % is a bootstrap over seeds, classes and queries, or of Student's t over folds of classes; in brackets stands the smallest true
difference that would have been seen four times in five. **Bold**: the interval leaves out zero. A metric is the mean over queries; "over classes"
is the mean over classes of each class's mean (`docs/metrics.md`), computed from the stored values of the queries. Training times are of runs that
nothing stopped in between.
The paper's figures are of other data and other training, as said below each table.
"""


def render() -> None:
    """Write the results page atomically."""
    with atomic_write(FOLDERS.docs / "results.md") as partial:
        partial.write_text(page(), encoding="utf-8")
    print(f"tables: {FOLDERS.docs.name}/results.md")


def page() -> str:
    """Text of the results page."""
    experiments = shown()
    return "\n".join([FOLDERS.named(HEAD), summary(experiments), *map(section, experiments)])


def summary(experiments: Sequence[Experiment]) -> str:
    """Table of all experiments with runs on the test split: the best rows over queries and over classes, and the number of claims by verdict."""
    heads = "| experiment | ahead | | ahead over classes | | claims: " + " | ".join(VERDICTS) + " |"
    lines = [heads, "| --- | --- | ---: | --- | ---: |" + " ---: |" * len(VERDICTS)]
    for experiment in experiments:
        runs, first = runs_of(experiment), experiment.metrics[0]
        means = {row: np.mean([r["metrics"][first] for r in own]) for row, own in finished(runs).items()}
        if means and experiment.final:
            best = max(means, key=lambda row: means[row])
            over_classes = {row: np.mean(values) for row, own in finished(runs).items() if (values := class_means(own, first))}
            ahead = max(over_classes, key=lambda row: over_classes[row], default="")
            of_classes = f"{ahead} | {over_classes[ahead]:.3f}" if ahead else " | "
            verdicts = [
                verdict(difference(experiment, runs, claim.better, claim.worse, first), least(experiment, runs, claim))
                for claim in experiment.claims
            ]
            counts = [str(verdicts.count(each)) for each in VERDICTS] if verdicts else [""] * len(VERDICTS)
            link = f"[{experiment.title}](#{anchor(experiment.title)})" + " (closed)" * bool(experiment.closed)
            lines.append(f"| {link} | {best} | {first} {means[best]:.3f} | {of_classes} | " + " | ".join(counts) + " |")
    return "\n".join([*lines, ""])


def anchor(title: str) -> str:
    """Anchor of a Markdown heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def section(experiment: Experiment) -> str:
    """Section of one experiment: its table, the conditions of its runs, its note and its claims."""
    runs, first = runs_of(experiment), experiment.metrics[0]
    if experiment.factorial:
        return "\n".join(
            [f"## {experiment.title}", "", *factorial.section(experiment, runs), "", conditions(runs), "", experiment.note, ""]
        )
    papers = list(dict.fromkeys(condition for row in experiment.rows for condition in row.paper))
    also = [(kind, metric) for kind, evaluator in experiment.also.items() for metric in metrics_of(evaluator)]
    also += [(variant, first) for variant in dict.fromkeys(variant for row in experiment.rows for variant in row.variants)]
    codes = [f"{first}, {experiment.code_bits}-bit codes"] if experiment.code_bits else []
    columns = ["row", first, f"{first} over classes", *experiment.metrics[1:], f"{first}, difference to {experiment.against}"]
    columns += [f"{metric}, {kind}" for kind, metric in also]
    columns += [*codes, "seeds", "training, s", *(f"paper: {p}" for p in papers)]
    lines = [f"## {experiment.title}", "", "| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    for row in experiment.rows:
        lines.append("| " + " | ".join(cells(experiment, row, runs, also, papers)) + " |")
        errors = [r["error"] for r in runs[row.name].values() if "error" in r]
        lines += [f"| {row.name}: failed | {error[:120].replace('|', '/')} |" + " |" * (len(columns) - 2) for error in errors]
    claims = [f"- {claim.says} ({claim.where}): {claim_text(experiment, runs, claim)}" for claim in experiment.claims]
    closed = [f"**Closed.** {experiment.closed}", ""] if experiment.closed else []
    return "\n".join([*lines, "", *closed, conditions(runs), "", experiment.note, "", *claims, ""])


def cells(experiment: Experiment, row: Row, runs: Runs, also: Sequence[tuple[str, str]], papers: Sequence[str]) -> list[str]:
    """Cells of one row of an experiment's table."""
    first = experiment.metrics[0]
    own = [r for r in runs[row.name].values() if "error" not in r]
    return [
        row.name,
        mean_and_deviation([r["metrics"][first] for r in own]),
        mean_and_deviation(class_means(own, first)),
        *(mean_and_deviation([r["metrics"][m] for r in own]) for m in experiment.metrics[1:]),
        difference_text(experiment, runs, row.name),
        *(mean_and_deviation([r["also"][kind][metric] for r in own if kind in r["also"]]) for kind, metric in also),
        *([mean_and_deviation([r["codes"][first] for r in own if r["codes"]])] if experiment.code_bits else []),
        str(len(own)),
        mean_and_deviation([seconds for r in own if (seconds := r["seconds"]["training"]) is not None], 0),
        *(f"{row.paper[p]:.4f}" if p in row.paper else "" for p in papers),
    ]


def class_means(runs: Sequence[Run], metric: str) -> list[float]:
    """The mean over classes of a metric in each run that holds the values and categories of its queries."""
    stored = [queries for r in runs if {metric, "category"} <= (queries := r.get("queries", {})).keys()]
    return [class_mean(np.array([queries[metric]]), np.array(queries["category"])) for queries in stored]


def difference_text(experiment: Experiment, runs: Runs, row: str) -> str:
    """Cell of a row's paired difference, bold where it is significant; empty without one."""
    against = experiment.against
    d = None if row == against else difference(experiment, runs, row, against, experiment.metrics[0])
    if d is None:
        return ""
    text = f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}) [{d.detectable:.3f}]"
    return f"**{text}**" if d.significant else text


def claim_text(experiment: Experiment, runs: Runs, claim: Claim) -> str:
    """Verdict on a claim with its figures, in one line."""
    metric = experiment.metrics[0]
    d = difference(experiment, runs, claim.better, claim.worse, metric)
    if d is None:
        return f"{verdict(d)}."
    figures = f"{metric} {d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}), {d.seeds} seed{'s' * (d.seeds > 1)}"
    if not d.significant:
        size = f"a true difference of {d.detectable:.3f} would have been seen four times in five"
        return f"{verdict(d, least(experiment, runs, claim))}: {figures}; {size}."
    return f"**{verdict(d)}** here: {figures}."


def mean_and_deviation(values: Sequence[float], digits: int = 3) -> str:
    """Mean over seeds, with the standard deviation where there are several; empty without values."""
    if not values:
        return ""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def model(run: Run) -> str:
    """Backbone, image size and steps of a run, or the settings of a probe."""
    if "recipe" not in run:
        return ", ".join(f"{name} {value}" for name, value in run["settings"].items())
    encoder = run["recipe"]["encoder"]
    steps = ", ".join(str(phase["steps"]) for phase in run["recipe"]["phases"])
    return f"{encoder.get('backbone', encoder['name'])} at {run['recipe']['transform']['size']} px, {steps} steps"


def conditions(runs: Runs) -> str:
    """Data, model, devices, versions and commits of the finished runs."""
    results = [r for own in finished(runs).values() for r in own]
    if not results:
        return "Not run yet."
    example = next((r for r in results if r["log"]), results[0])
    data = example["data"]
    clauses = [
        f"{data['name']}, split {data['split']} ({data['digest'][:12]}), {data.get('part', 'test')} part",
        f"{data['queries']} queries, {data['photos']} photos",
        model(example),
        "devices: " + ", ".join(sorted({r["device"] for r in results})),
        "Python " + ", ".join(sorted({r["python"] for r in results})),
        ", ".join(f"{k} {v}" for k, v in example["versions"].items() if k != "sbirlib"),
        "commits: " + ", ".join(sorted({r["commit"] + "+" * r["changed"] for r in results})),
    ]
    return "; ".join(clauses) + "."
