"""Train and evaluate every row of every experiment, then render docs/results.md, docs/claims.md and docs/results.html.

    python benchmarks/run_all.py                        # all runs without a result
    python benchmarks/run_all.py mathm-synthetic --rows CE "CE + cross" --seeds 1 --device cpu
    python benchmarks/run_all.py acnet-ablations --trial 20    # 20 steps of each phase of each row; no result is stored
    python benchmarks/run_all.py --preset smoke         # all methods and baselines on a small synthetic set, in minutes; cpu: the others
    python benchmarks/run_all.py --preset paper --list  # published datasets at the papers' size, for a GPU
    python benchmarks/run_all.py --preset worlds --out mine    # each method where its idea must matter, anew, with results and pages in mine/
    python benchmarks/run_all.py --list                 # experiments, and the time that their missing runs will take
    python benchmarks/run_all.py --hours 2.5            # stop after two and a half hours; the next call goes on from there
    python benchmarks/run_all.py --render               # render docs/results.md and docs/claims.md only
    torchrun --nproc-per-node 2 benchmarks/run_all.py mathm-synthetic    # every run with two processes

A finished run is one line of benchmarks/results/EXPERIMENT.jsonl and is not repeated; an interrupted run resumes from its last
checkpoint; a failed run is listed in the table with its error and repeated with --retry.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this file is run by its path, so its package is not importable yet

from benchmarks.experiments import claims, definition, forecast, runs, tables, web
from benchmarks.experiments.definition import Experiment, Row
from benchmarks.experiments.folders import FOLDERS
from sbirlib import InputError
from sbirlib.data.dataset import Dataset
from sbirlib.processes import join, launched, rank

PRESETS = ("smoke", "worlds", "cpu", "paper")


def main() -> None:
    options = parse_options()
    options.experiments = options.experiments or preset(options.preset)
    if options.out:
        FOLDERS.move(options.out)
    if launched()[0] > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    join()
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.list:
        print(forecast.listing(options.experiments, device))
        return
    sources = definition.source_models()
    if options.hours:
        signal.signal(signal.SIGALRM, time_is_up)
        signal.setitimer(signal.ITIMER_REAL, 3600 * options.hours)
    try:
        for name in [] if options.render else options.experiments:
            run_experiment(definition.read(name), options, device, sources)
    except TimeUp:
        print(f"{options.hours} hours are up: the run in progress goes on from its last checkpoint when it is called again", flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if not options.trial and rank() == 0:
        tables.render()
        claims.render()
        web.render()
        if not options.render and (report := claims.report(options.experiments)):
            print(report)


def preset(name: str) -> list[str]:
    """Names of the experiments of a preset: the small one, those of the worlds, those for a GPU, or all others that are not closed."""
    if name == "smoke":
        return ["smoke"]
    experiments = [definition.read(each) for each in definition.names() if each != "smoke"]
    wanted = {each.name: {"worlds": bool(each.world), "paper": each.gpu, "cpu": not each.gpu}[name] for each in experiments}
    return [each.name for each in experiments if not each.closed and wanted[each.name]]


class TimeUp(BaseException):
    """The time of --hours is up; no Exception, which a run would store as its result."""


def time_is_up(*_: object) -> None:
    raise TimeUp


def run_experiment(experiment: Experiment, options: argparse.Namespace, device: str, sources: set[str]) -> None:
    """Execute the pending runs of an experiment; one whose data is not there is skipped with a message."""
    if experiment.closed:
        if options.experiments:
            print(f"{experiment.name} is closed: {experiment.closed}")
        return
    rows = [row for row in experiment.rows if not options.rows or row.name in options.rows]
    todo = runs.pending(experiment, rows, range(options.seeds or experiment.seeds), retry=options.retry)
    if not todo and not options.trial:
        return
    try:
        data = read_data(experiment, 0)
    except InputError as error:
        print(f"{experiment.name}: skipped: {error}")
        return
    if options.trial:
        for row in rows:
            runs.trial(experiment, row, options.trial, data, device)
        return
    print(f"{experiment.name}: {data.describe()}; {len(todo)} runs on {device}")
    datasets = {(0, "{}"): data}
    for number, (seed, row) in enumerate(todo):
        print(
            f"run {number + 1} of {len(todo)}; time left: {forecast.clock(forecast.expected(experiment, todo[number:], device))}",
            flush=True,
        )
        key = (seed % experiment.folds if experiment.folds else 0, json.dumps(row.data, sort_keys=True))
        if key not in datasets:
            datasets = {k: own for k, own in datasets.items() if k[0] == key[0]} | {key: read_data(experiment, seed, row)}
        runs.run(experiment, row, seed, datasets[key], device, keep=options.keep or f"{experiment.name}/{row.name}" in sources)


def read_data(experiment: Experiment, seed: int, row: Row | None = None) -> Dataset:
    """The dataset of the runs of a seed, or of a row; images that are rendered in Python are rendered once."""
    data = definition.data(experiment, seed, row)
    return replace(data, reader=runs.ImageCache(data.reader)) if data.threads == 1 else data


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", help=f"names; default: those of the preset (of {', '.join(definition.names())})")
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="cpu",
        help="experiments where none is named: smoke, minutes on two cores; worlds, an evening; cpu, evenings; paper, published datasets on a GPU",
    )
    parser.add_argument("--rows", nargs="*", help="names of rows; default: all")
    parser.add_argument("--seeds", type=int, help="number of seeds, from 0; default: that of the experiment")
    parser.add_argument("--device", help="cpu or cuda; default: the GPU if there is one")
    parser.add_argument(
        "--out", type=Path, help="folder of results, runs and pages; default: the project's, where no stored run is repeated"
    )
    parser.add_argument("--retry", action="store_true", help="repeat failed runs")
    parser.add_argument("--trial", type=int, metavar="STEPS", help="train STEPS steps of each phase with seed 0 and store nothing")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep trained models under benchmarks/runs; those that other rows start from are always kept",
    )
    parser.add_argument(
        "--hours", type=float, help="stop after so many hours, whatever is unfinished; default: when all runs have a result"
    )
    parser.add_argument(
        "--list", action="store_true", help="print the experiments, and the time that their missing runs will take, and run nothing"
    )
    parser.add_argument("--render", action="store_true", help="render docs/results.md and docs/claims.md only")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"run_all: {error}") from None
