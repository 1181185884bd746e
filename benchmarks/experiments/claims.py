"""The claims page, docs/claims.md, and the claims on each method's page, rendered from the results store."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.definition import Claim, Experiment
from benchmarks.experiments.folders import FOLDERS
from benchmarks.experiments.verdicts import VERDICTS, difference, least, oracle_gain, runs_of, shown, verdict
from benchmarks.pages import fill
from sbirlib.files import atomic_write
from sbirlib.retrieval.paired import Difference

PAPERS = {
    "sbirlib": "Compositions of this library",
    "mathm": "MATHM (Huang et al. 2022)",
    "acnet": "ACNet (Ren et al. 2022)",
    "landmarks": "The landmark-aware network (Zhang et al. 2019)",
    "vtd": "Visual trait descriptors (Pang et al. 2019)",
    "generative": "Cross-domain generative learning (Pang et al. 2017)",
}
HEAD = """# Claims

Each claim of each paper, and of our own compositions, in the world of the synthetic set in which it must matter (`docs/synthetic.md`), and on real
data. Rendered by
`python benchmarks/run_all.py --render` from the runs in `benchmarks/results`. To see a line for yourself, `python benchmarks/run_all.py EXPERIMENT
--out FOLDER` makes its runs anew and prints its verdicts; `--preset worlds` those of all worlds.
An effect is the difference of two rows that were trained on the same batches and asked the same queries, with its interval of 95 %, over seeds,
classes and queries, or over folds of classes. "Could be seen" is the smallest true difference that would be seen four times in five. The last
column of an undecided claim says how many runs would decide an effect as large as the paper's, or, where that is of another kind, as the one seen.
There is no gain that matters where the interval holds zero and ends below the least effect that matters, which is not for the runs to choose: 2
points of mAP@all on qdphoto, 4 of Acc@1 on shoe304, 1 of accuracy on quickdraw345, and in a world a third of the oracle's gain.
"""
COLUMNS = ("claim", "in the paper", "data", "effect", "interval", "could be seen", "runs", "share of the oracle's gain", "verdict")
BEGIN, END = "<!-- claims: rendered by benchmarks/run_all.py --render -->", "<!-- end of claims -->"


@dataclass(frozen=True)
class Line:
    """A claim in one experiment, with the difference of its rows, the share that this is of the oracle's gain, and the least that matters."""

    claim: Claim
    experiment: Experiment
    difference: Difference | None
    share: float | None
    least: float

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        return verdict(self.difference, self.least)


def render() -> None:
    """Write the claims page, and the claims on the methods' pages where there are any, atomically."""
    by_paper = {paper: list(lines_of(paper)) for paper in PAPERS}
    write(
        FOLDERS.docs / "claims.md",
        "\n".join([FOLDERS.named(HEAD), summary(by_paper), *(section(paper, lines) for paper, lines in by_paper.items())]),
    )
    for paper, lines in by_paper.items():
        page = FOLDERS.docs / "methods" / f"{paper}.md"
        if not page.parent.is_dir():  # a folder of one's own has no methods' pages
            continue
        fill(page, "claims", BEGIN, END, table(lines))
    print(f"claims: {FOLDERS.docs.name}/claims.md")


def write(path: Path, text: str) -> None:
    """Write a page atomically."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def report(names: Collection[str]) -> str:
    """The claims of these experiments, one a line: the verdict, what is claimed, the effect, and the share of the oracle's gain."""
    lines = [line for paper in PAPERS for line in lines_of(paper) if line.experiment.name in names]
    return "\n".join(f"{line.verdict}: {line.claim.says}{effect(line)} [{line.experiment.name}]" for line in lines)


def effect(line: Line) -> str:
    """The effect of a claim in words; empty before its runs."""
    if line.difference is None:
        return ""
    low, mean, high = (f"{value:+.3f}" for value in (line.difference.low, line.difference.mean, line.difference.high))
    gain = "" if line.share is None else f", {line.share:.0%} of the oracle's gain"
    return f": {line.experiment.metrics[0]} {mean} ({low} to {high}){gain}"


def lines_of(paper: str) -> Iterator[Line]:
    """The claims of a paper in all experiments on test splits: those of worlds first."""
    experiments = [e for e in shown() if e.paper == paper and e.final]
    for experiment in sorted(experiments, key=lambda e: (not e.world, e.name)):
        runs = runs_of(experiment)
        for claim in experiment.claims:
            effect_here = difference(experiment, runs, claim.better, claim.worse, experiment.metrics[0])
            gain = oracle_gain(experiment, runs, claim)
            share = effect_here.mean / gain if effect_here and gain else None
            yield Line(claim, experiment, effect_here, share, least(experiment, runs, claim))


def summary(by_paper: dict[str, list[Line]]) -> str:
    """Number of claims of each paper, by verdict, in worlds and on real data."""
    rows = ["| | " + " | ".join(f"{where}: {each}" for where in ("worlds", "real data") for each in VERDICTS) + " |"]
    rows.append("| --- |" + " ---: |" * (2 * len(VERDICTS)))
    everything = {
        **{PAPERS[paper]: lines for paper, lines in by_paper.items()},
        "all": [line for lines in by_paper.values() for line in lines],
    }
    for name, lines in everything.items():
        counts = [
            sum(line.verdict == each and bool(line.experiment.world) == world for line in lines)
            for world in (True, False)
            for each in VERDICTS
        ]
        rows.append(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join([*rows, ""])


def section(paper: str, lines: Sequence[Line]) -> str:
    """Section of a paper: its claims as a table."""
    page = "The recipes, and what each part is there for" if paper == "sbirlib" else "The method, and all differences from the paper"
    return f"## {PAPERS[paper]}\n\n[{page}](methods/{paper}.md).\n\n{table(lines)}\n"


def table(lines: Sequence[Line]) -> str:
    """Claims as a Markdown table."""
    if not lines:
        return "No experiment has run yet."
    rows = ["| " + " | ".join(COLUMNS) + " |", "| --- | --- | --- | ---: | --- | ---: | ---: | ---: | --- |"]
    return "\n".join(rows + ["| " + " | ".join(cells(line)) + " |" for line in lines])


def cells(line: Line) -> list[str]:
    """Cells of a claim in one experiment."""
    experiment, d = line.experiment, line.difference
    place = experiment.name + (f", the world of {experiment.world}" if experiment.world else "")
    if d is None:
        return [line.claim.says, line.claim.where, place, "", "", "", "0", "", verdict(d)]
    return [
        line.claim.says,
        line.claim.where,
        place,
        f"{experiment.metrics[0]} {d.mean:+.3f}",
        f"{d.low:+.3f} to {d.high:+.3f}",
        f"{d.detectable:.3f}",
        str(d.seeds),
        "" if line.share is None else f"{line.share:.0%}",
        undecided(line, d) if line.verdict == "not decided" else f"**{line.verdict}**" + sizes(line),
    ]


def sizes(line: Line) -> str:
    """The least effect that matters, of a verdict that depends on it."""
    return f" (under {line.least:.2g})" if line.verdict == "no gain that matters" else ""


def undecided(line: Line, d: Difference) -> str:
    """Verdict on a claim whose interval holds zero, with the number of runs that would decide it."""
    papers = [{row.name: row for row in line.experiment.rows}[name].paper for name in (line.claim.better, line.claim.worse)]
    common = [condition for condition in papers[0] if condition in papers[1]]
    published = abs(papers[0][common[0]] - papers[1][common[0]]) if common else 0.0
    effect = published or abs(d.mean)
    if not effect:
        return "not decided: no effect"
    runs = math.ceil(d.seeds * (d.detectable / effect) ** 2)
    return f"not decided: {max(runs, d.seeds + 1)} runs for {effect:.3f}" + (", as published" if published else ", as seen")
