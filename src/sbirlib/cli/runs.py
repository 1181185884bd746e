"""Commands before and after a training: learning-rate range test, profile of a step, comparison of runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sbirlib.cli.options import DATA, Data, Device, MaxPixels, Set, SkipBad, Split, open_dataset, settings, table
from sbirlib.errors import InputError

if TYPE_CHECKING:
    from sbirlib.comparison import TrainingRun
    from sbirlib.profiling.profile import Profile, Span

WIDEST = 40  # characters of a value in a table


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="folders that `sbirlib train --out` wrote, two or more; all are compared with the first")
    ],
    data: Annotated[str | None, typer.Option(help=f"also evaluate the models on this: {DATA}")] = None,
    split: Split = None,
    on: Annotated[str, typer.Option(help="the images of --split to evaluate on: test or validation")] = "test",
    metrics: Annotated[
        list[str] | None, typer.Option(help="by name, such as mAP@200; repeatable; the first run's own unless given")
    ] = None,
    curves: Annotated[Path | None, typer.Option(help="the picture of training and validation curves; curves.png unless given")] = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Print the settings in which runs differ and the last values of their logs, draw their curves, and compare their models query by query."""
    from sbirlib import comparison

    if on not in ("test", "validation"):
        raise InputError(f"--on {on}: expected test or validation")
    read = comparison.read_runs(runs)
    differing = comparison.differing_settings(read)
    if differing:
        _columns("setting", read, differing)
    else:
        typer.echo("the runs have the same settings and data")
    typer.echo("")
    _columns("in the log", read, comparison.results(read))
    _draw(read, curves)
    if data is None:
        typer.echo("the models on the same queries, with paired differences: --data DATA --split SPLIT")
        return
    dataset = open_dataset(data, split, skip_bad, max_pixels)
    typer.echo(f"\n{dataset.select(on).describe()}, {on}")
    result = comparison.compare(read, dataset, metrics=metrics, split=on, device=device)
    _columns("metric", read, {name: list(values.values()) for name, values in result.metrics.items()})
    typer.echo("")
    heads = ["metric", "run", f"difference to {read[0].name}", "95 % interval", "detectable", ""]
    table(heads, [line.cells() for line in result.differences])
    typer.echo(
        "intervals are over classes and queries, not over seeds; detectable is the smallest true difference that is seen four times in five"
    )


def tune_lr(
    recipe: Annotated[str, typer.Argument(help="a recipe's name or TOML file")],
    data: Data,
    split: Split = None,
    set_: Set = None,
    steps: Annotated[int, typer.Option(help="training steps of the test")] = 100,
    low: Annotated[float, typer.Option(help="rate of the first step, of the parameter group with the largest")] = 1e-7,
    high: Annotated[float, typer.Option(help="rate of the last step")] = 1.0,
    out: Annotated[Path, typer.Option(help="the picture of the loss over the rates")] = Path("rates.png"),
    device: Device = None,
    workers: int = 0,
    seed: int | None = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Suggest learning rates by a range test (Smith 2017): a few steps of a fresh training, on training images alone, at growing rates."""
    from sbirlib.range_test import range_test, save_curve

    changes = {**settings(set_), **({} if seed is None else {"seed": seed})}
    dataset = open_dataset(data, split, skip_bad, max_pixels)
    typer.echo(dataset.train.describe())
    curve = range_test(recipe, dataset, steps=steps, low=low, high=high, device=device, workers=workers, **changes)
    count, most = len(curve.rates), float(curve.rates[-1])
    ends = {
        "diverged": f"the loss diverged at {most:.2g}",
        "collapsed": f"at {most:.2g} all images have one vector: a loss that falls towards this says nothing",
        "last step": "the loss did not diverge",
    }
    typer.echo(f"{count} steps, rates from {low:.2g} to {most:.2g}; {ends[curve.end]}")
    for rule in curve.thawed:
        typer.echo(f"{rule} is trained from the first step here, though the recipe freezes it at first")
    if curve.suggestion is None:
        typer.echo("no suggestion: the loss did not fall by more than its noise; give more --steps, or larger batches")
    else:
        rate, reason = curve.suggestion
        typer.echo(f"suggested: {rate:.2g}, {rate / curve.rate:.2g} times the recipe's {curve.rate:.2g}: {reason}")
        typer.echo("  " + " ".join(f"--set {path}={value:.2g}" for path, value in curve.scaled(rate).items()))
    if find_spec("matplotlib") is not None:
        save_curve(curve, out)
        typer.echo(f"the loss over the rates: {out}")


def profile(
    recipe: Annotated[str, typer.Argument(help="a recipe's name or TOML file")],
    data: Data,
    split: Split = None,
    set_: Set = None,
    phase: Annotated[int | None, typer.Option(help="the phase to profile; the first that has steps unless given")] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="training steps to profile, after as many that are timed alone and a few to warm up")
    ] = 20,
    device: Device = None,
    workers: Annotated[int | None, typer.Option(help="processes that read images; as many as a training takes unless given")] = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Show where the time of a training step goes, and advise on what to change; nothing is saved."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages
    from sbirlib.phase_alone import phase_alone
    from sbirlib.profiling.advice import advice
    from sbirlib.profiling.profile import Span, steps_of
    from sbirlib.profiling.profile import profile as profile_steps

    alone = phase_alone(recipe, settings(set_), steps=steps_of(steps), phase=phase)
    dataset = open_dataset(data, split, skip_bad, max_pixels)
    typer.echo(dataset.train.describe())
    for rule in alone.thawed:
        typer.echo(f"{rule} is trained here, as it is after the steps for which the recipe freezes it")
    result = profile_steps(alone.pipeline, dataset, steps=steps, device=device, workers=workers)
    memory = f"{result.peak_memory / 2**30:.2f} GiB" + (f" of {result.memory / 2**30:.0f}" if result.memory else "")
    typer.echo(f"{result.images_per_second:.1f} images a second in batches of {result.images}; peak memory {memory}; on {result.device}\n")
    times: list[tuple[str, Span, float]] = [(name, span, result.share(name)) for name, span in result.parts.items()]
    rest = Span(max(0.0, result.step - sum(span.host for span in result.parts.values())))
    times.append(("all else", rest, result.idle if result.on_gpu else rest.host / result.step))
    times += [(f"  {name}", result.losses[name], share) for name, share in result.loss_shares().items()]
    _times("part", result, [(name, span, f"{share:.1%}") for name, span, share in times])
    typer.echo("")
    _times("operator", result, [(name, span, f"{calls:.0f}") for name, span, calls in result.operators], last="calls a step")
    typer.echo("")
    for sentence in advice(result):
        typer.echo(f"- {sentence}")


def _times(head: str, result: Profile, rows: Sequence[tuple[str, Span, str]], *, last: str = "share") -> None:
    """Milliseconds a step on the host and, where there is one, on the GPU."""
    heads = [head, "host, ms", *(["GPU, ms"] if result.on_gpu else []), last]
    cells = [[name, f"{span.host:.2f}", *([f"{span.gpu:.2f}"] if result.on_gpu else []), text] for name, span, text in rows]
    table(heads, cells)


def _columns(head: str, runs: Sequence[TrainingRun], rows: Mapping[str, Sequence[Any]]) -> None:
    table([head, *(run.name for run in runs)], [[name, *map(_shown, values)] for name, values in rows.items()])


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def _draw(runs: Sequence[TrainingRun], path: Path | None) -> None:
    """Draw the curves of all runs; without matplotlib or a log only where a path was given."""
    from sbirlib.visual.curves import compared_curves
    from sbirlib.visual.figures import save_figure

    if path is None and find_spec("matplotlib") is None:
        typer.echo("no curves: they need matplotlib (pip install 'sbirlib[figures]')")
    elif path is None and not any(run.records for run in runs):
        typer.echo("no curves: no run has a log")
    else:
        place = path or Path("curves.png")
        save_figure(compared_curves({run.name: run.records for run in runs}), place)
        typer.echo(f"curves: {place}")
