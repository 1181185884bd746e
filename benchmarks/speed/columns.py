"""A column of docs/performance.md for the processor at hand: measures, stores one file, and renders the table of all of them.

    python -m benchmarks.speed.columns             # ten minutes, with nothing else running; writes benchmarks/speed/results/PROCESSOR.jsonl
    python -m benchmarks.speed.columns --render    # the table alone, from the files that are there

Every measure is a program of this folder in a process of its own; each of its lines is stored as it was printed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.experiments.folders import FOLDERS
from benchmarks.pages import fill
from benchmarks.speed.evaluation import CURVES, SIZES
from benchmarks.speed.timing import machine
from sbirlib.files import atomic_write

RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- columns: rendered by python -m benchmarks.speed.columns --render -->", "<!-- end of columns -->"
MEASURES = [
    *(["evaluation", "--only", size, *path] for size in SIZES for path in ([], ["--plain"])),
    *(["evaluation", "--only", size, "--queries", "480", "--peers", "--peer-queries", "480", "--repeats", "3"] for size in SIZES),
    *(["evaluation", "--curve", axis, "--repeats", "7"] for axis in CURVES),
    ["triplets", "--batches", "128", "2048"],
]

Line = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="render the table, and measure nothing")
    options = parser.parse_args()
    if not options.render:
        measure()
    render()


def measure() -> None:
    """Run every measure and store their lines in the file of this processor, in one atomic write."""
    name = re.sub(r"\W+", "-", f"{machine()['processor']} {machine()['instructions']}").strip("-").lower()
    lines = []
    for arguments in MEASURES:
        print(" ".join(arguments), flush=True)
        process = subprocess.run(
            [sys.executable, "-m", f"benchmarks.speed.{arguments[0]}", *arguments[1:]], capture_output=True, text=True, check=True
        )
        about: Line = {}
        for text in process.stdout.splitlines():
            if text.startswith("{"):
                line = json.loads(text)
                about = about if about else line  # conditions come first
                lines.append({"measure": arguments, "about": about, **line})
    RESULTS.mkdir(exist_ok=True)
    with atomic_write(RESULTS / f"{name}.jsonl") as file:
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def columns() -> dict[str, list[Line]]:
    """Stored lines by file, those of one processor each."""
    return {
        path.stem: [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] for path in sorted(RESULTS.glob("*.jsonl"))
    }


def head(lines: list[Line]) -> str:
    """Name of a column: the processor, its instructions, the threads, and torch's version."""
    about = lines[0]["about"]
    backends = ", ".join(about["backends"])
    return f"{about['processor']}, {about['instructions']}, {about['threads']} threads, torch {about['torch']} ({backends})"


def rows() -> list[tuple[str, Callable[[list[Line]], str]]]:
    """Rows of the table: the measure in words, and its cell from the lines of a processor."""
    table: list[tuple[str, Callable[[list[Line]], str]]] = []
    for size, (queries, gallery, _) in SIZES.items():
        place = f"{queries:,} x {gallery:,}"
        for path, words in (("compiled", "with the compiled kernel"), ("plain", "without")):
            table.append((f"metrics, {place}, {words}: times `torch.mm` (quartiles)", partial(ratio, size=size, path=path)))
        table.append((f"metrics, {place}: beyond the vectors, MiB", partial(memory, size=size)))
        for peer, words in (("AccuracyCalculator", "pytorch-metric-learning"), ("argsort", "an argsort a query")):
            table.append((f"{words}, {place}, 480 queries: times ours", partial(times, size=size, peer=peer)))
    table.append(("loading the kernel once it is compiled, s", loading))
    for axis, counts in CURVES.items():
        words = f"metrics, of 200 queries x 20,000 with 200 relevant, {axis} {', '.join(f'{count:,}' for count in counts)}: ms"
        table.append((words, partial(curve, axis=axis)))
    for batch in (128, 2048):
        table.append((f"three triplet terms, batch {batch:,}: times as quick as pytorch-metric-learning", partial(triplets, batch=batch)))
    return table


def ratio(lines: list[Line], size: str, path: str) -> str:
    """Ratio of the metrics to torch.mm, with quartiles."""
    own = next((line["ratio"] for line in lines if line.get("size") == size and "ratio" in line and line["about"]["path"] == path), None)
    return "" if own is None else f"{own['median']} ({own['low']} to {own['high']})"


def memory(lines: list[Line], size: str) -> str:
    """Peak memory of the metrics beyond the vectors."""
    key = "peak_beyond_the_vectors_MiB"
    return str(max((line[key] for line in lines if line.get("size") == size and key in line), default=""))


def times(lines: list[Line], size: str, peer: str) -> str:
    """Time of a peer, over ours."""
    own = [line["times_ours"] for line in lines if line.get("size") == size and peer in line.get("peer", "") and line.get("times_ours")]
    return str(max(own)) if own else ""


def loading(lines: list[Line]) -> str:
    """Seconds that loading the kernel takes in a later process."""
    own = [line["about"]["loading_s"] for line in lines if line["about"].get("path") == "compiled"]
    return str(min(own)) if own else ""


def curve(lines: list[Line], axis: str) -> str:
    """Times along an axis."""
    own = [(line[axis], line["seconds"]) for line in lines if line.get("curve") == axis]
    return ", ".join(f"{1000 * time:.0f}" for _, time in own)


def triplets(lines: list[Line], batch: int) -> str:
    """Ratio of the times of pytorch-metric-learning and ours, with quartiles."""
    own = next((each for line in lines for each in line.get("results", []) if each["batch"] == batch), None)
    return "" if own is None else f"{own['ratio']} ({own['low']} to {own['high']})"


def table() -> str:
    """The table of all processors."""
    stored = columns()
    heads = ["", *(head(lines) for lines in stored.values())]
    body = [[words, *(cell(lines) for lines in stored.values())] for words, cell in rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] + ["---:"] * len(stored), *body])


def render() -> None:
    """Write the table into docs/performance.md, atomically."""
    fill(FOLDERS.docs / "performance.md", "table", BEGIN, END, table())


if __name__ == "__main__":
    main()
