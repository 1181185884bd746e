"""The results as one self-contained page, docs/results.html: accuracy against cost, learning curves, claims, filters and, of runs of one's own
(`run_all.py --out`), the best and worst queries as pictures. No external request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import mean, median
from typing import Any

from benchmarks.experiments import pictures
from benchmarks.experiments.claims import PAPERS, Line, lines_of
from benchmarks.experiments.definition import Experiment
from benchmarks.experiments.folders import FOLDERS
from benchmarks.experiments.forecast import took
from benchmarks.experiments.tables import difference_text
from benchmarks.experiments.verdicts import VERDICTS, Run, finished, runs_of, shown
from sbirlib.files import atomic_write

WIDTH, HEIGHT, EDGE = 420, 220, 34  # of a plot, in pixels, and its margin
HUES = 47  # degrees between the colours of rows
STYLE = """
:root{color-scheme:light dark;font:15px/1.45 system-ui,sans-serif}body{max-width:72rem;margin:auto;padding:1rem}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;border-bottom:1px solid #8884;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}svg,img{max-width:100%;height:auto}svg text{fill:currentColor;font-size:10px}
details{margin:.6rem 0;border:1px solid #8884;border-radius:6px;padding:.3rem .7rem}summary{cursor:pointer;font-weight:600}
nav{position:sticky;top:0;background:Canvas;padding:.5rem 0;display:flex;gap:.6rem;flex-wrap:wrap}
[hidden]{display:none}.plots{display:flex;flex-wrap:wrap;gap:1rem}
"""
SCRIPT = """
const words=document.getElementById('words'),verdict=document.getElementById('verdict');
function filter(){const w=words.value.toLowerCase(),v=verdict.value;
 for(const e of document.querySelectorAll('[data-text]'))
  e.hidden=!e.dataset.text.includes(w)||(v&&e.dataset.verdict!==undefined&&e.dataset.verdict!==v);}
words.oninput=filter;verdict.onchange=filter;
"""


ABOUT = (
    "Rendered by <code>python benchmarks/run_all.py --render</code> from the runs in <code>benchmarks/results</code>. A point is a row: "
    "the mean of its runs against the median of their times. Conditions, notes and the papers' figures stand in <code>docs/results.md</code>."
)


def render() -> None:
    """Write the page atomically."""
    with atomic_write(FOLDERS.docs / "results.html") as partial:
        partial.write_text(page(), encoding="utf-8")
    print(f"page: {FOLDERS.docs.name}/results.html")


def page() -> str:
    """HTML of the page."""
    experiments = [e for e in sorted(shown(), key=lambda e: bool(e.closed)) if finished(runs_of(e))]
    sections = [section(e, opened=len(experiments) == 1) for e in experiments]
    options = "".join(f"<option>{each}</option>" for each in VERDICTS)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>sbirlib: results</title><style>{STYLE}</style></head><body><h1>Results</h1>"
        f"<p>{FOLDERS.named(ABOUT)}</p>"
        '<nav><input id="words" type="search" placeholder="filter: a paper, a row, an experiment" size="40" aria-label="filter">'
        f'<select id="verdict" aria-label="verdict"><option value="">all verdicts</option>{options}</select></nav>'
        f"{claims()}<h2>Experiments</h2>{''.join(sections)}<script>{SCRIPT}</script></body></html>\n"
    )


def claims() -> str:
    """One line a claim: paper, claim, experiment, effect with its interval, and verdict; nothing where there is none."""
    rows = [claim(paper, line) for paper in PAPERS for line in lines_of(paper)]
    if not rows:
        return ""
    heads = "".join(f"<th>{head}</th>" for head in ("paper", "claim", "data", "effect", "interval of 95 %", "verdict"))
    return f"<h2>Claims</h2><table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def claim(paper: str, line: Line) -> str:
    """A claim as a row of a table."""
    d = line.difference
    effect, interval = ("", "") if d is None else (f"{line.experiment.metrics[0]} {d.mean:+.3f}", f"{d.low:+.3f} to {d.high:+.3f}")
    cells = [PAPERS[paper], f"{line.claim.says} ({line.claim.where})", line.experiment.name, effect, interval, line.verdict]
    text = escape(" ".join(cells).lower(), quote=True)
    return f'<tr data-text="{text}" data-verdict="{line.verdict}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def section(experiment: Experiment, *, opened: bool = False) -> str:
    """An experiment: its rows in a table, and two plots."""
    runs, metric = runs_of(experiment), experiment.metrics[0]
    done = {row.name: finished(runs)[row.name] for row in experiment.rows if row.name in finished(runs)}
    colours = {name: f"hsl({HUES * number % 360} 65% 50%)" for number, name in enumerate(done)}
    lines = []
    for name, own in done.items():
        seconds = [value for r in own if (value := took(r)) is not None]
        values = [f"{mean(r['metrics'][metric] for r in own):.3f}", difference_text(experiment, runs, name).replace("*", ""), str(len(own))]
        cells = "".join(f'<td class="n">{escape(value)}</td>' for value in [*values, f"{median(seconds):.0f} s" if seconds else ""])
        lines.append(f'<tr><td><span style="color:{colours[name]}">&#9679;</span> {escape(name)}</td>{cells}</tr>')
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("row", metric, f"difference to {experiment.against}", "runs", "a run"))
    text = escape(" ".join([experiment.name, experiment.title, PAPERS.get(experiment.paper, ""), *done]).lower(), quote=True)
    closed = " (closed)" if experiment.closed else ""
    return (
        f'<details data-text="{text}"{" open" * opened}><summary>{escape(experiment.title)}{closed}</summary><table><thead><tr>{heads}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table><div class="plots">{costs(done, metric, colours)}{curves(done, colours)}</div>'
        f"{queries(experiment)}</details>"
    )


def queries(experiment: Experiment) -> str:
    """The best and the worst queries of each row's first run, where there are pictures of them."""
    pictured = [(row.name, address) for row in experiment.rows if (address := pictures.embedded(experiment, row))]
    return "".join(
        f"<details><summary>{escape(name)}: best and worst queries</summary>"
        f'<img src="{address}" alt="Sketches with the highest, then the lowest values, and their ten best photos"></details>'
        for name, address in pictured
    )


def costs(done: Mapping[str, Sequence[Run]], metric: str, colours: Mapping[str, str]) -> str:
    """Scatter plot of the metric against the seconds of a run."""
    points = {}
    for name, own in done.items():
        if seconds := [value for r in own if (value := took(r)) is not None]:
            points[name] = (median(seconds), mean(r["metrics"][metric] for r in own))
    return plot({name: [point] for name, point in points.items()}, colours, "seconds of a run", metric)


def curves(done: Mapping[str, Sequence[Run]], colours: Mapping[str, str]) -> str:
    """Sum of the loss terms over the steps, of each row's first run."""
    series = {}
    for name, own in done.items():
        points = [(record["step"], sum(record["losses"].values())) for record in own[0].get("log", []) if record.get("losses")]
        if len(points) > 1:
            series[name] = points
    return plot(series, colours, "step", "sum of losses, seed 0")


def plot(series: Mapping[str, Sequence[tuple[float, float]]], colours: Mapping[str, str], across: str, up: str) -> str:
    """Points, or a line through several, of each row in its colour, as SVG; empty without points."""
    every = [point for points in series.values() for point in points]
    if not every:
        return ""
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*every, strict=True))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = ((value - least) / ((most - least) or 1) for value, least, most in zip(point, (left, low), (right, high), strict=True))
        return round(EDGE + x * (WIDTH - 2 * EDGE), 1), round(HEIGHT - EDGE - y * (HEIGHT - 2 * EDGE), 1)

    marks = []
    for name, points in series.items():
        at = [place(point) for point in points]
        title = f"<title>{escape(name)}: {points[-1][1]:.3f} at {points[-1][0]:.0f}</title>"
        if len(at) == 1:
            marks.append(f'<circle cx="{at[0][0]}" cy="{at[0][1]}" r="5" fill="{colours[name]}">{title}</circle>')
        else:
            path = " ".join(f"{x},{y}" for x, y in at)
            marks.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="1.5">{title}</polyline>')
    labels: list[tuple[Any, ...]] = [
        (EDGE, HEIGHT - EDGE + 14, "start", f"{left:.0f}"), (WIDTH - EDGE, HEIGHT - EDGE + 14, "end", f"{right:.0f}"),
        (WIDTH / 2, HEIGHT - 6, "middle", across), (EDGE - 4, HEIGHT - EDGE, "end", f"{low:.2f}"), (EDGE - 4, EDGE, "end", f"{high:.2f}"),
        (EDGE, EDGE - 12, "start", up),
    ]  # fmt: skip
    texts = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>' for x, y, anchor, text in labels)
    frame = f'<path d="M{EDGE} {EDGE}V{HEIGHT - EDGE}H{WIDTH - EDGE}" fill="none" stroke="currentColor" opacity=".4"/>'
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(up)} by {across}">'
    return f"{head}{frame}{''.join(marks)}{texts}</svg>"
