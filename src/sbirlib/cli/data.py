"""Verbs of `sbirlib data`: the check of a dataset before training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sbirlib.cli.options import DATA, Split, table


def check(
    source: Annotated[str, typer.Argument(help=DATA)],
    split: Split = None,
    picture: Annotated[Path, typer.Option(help="file for the picture of a training batch")] = Path("training-batch.png"),
    size: Annotated[int, typer.Option(help="side of an image in that picture, in pixels")] = 96,
) -> None:
    """Count, decode and compare every image, and draw a batch as training sees it; fails where something is wrong."""
    from sbirlib.data.check import check as check_dataset
    from sbirlib.data.transforms import Sbir
    from sbirlib.visual.batch import training_batch
    from sbirlib.visual.layout import save_picture

    findings = check_dataset(source, split)
    typer.echo(findings.dataset.describe())
    heads = ("split", "classes", "sketches", "photos", "sketches a class", "photos a class")
    table(heads, [[str(v) if not isinstance(v, tuple) else f"{v[0]} to {v[1]}" for v in vars(count).values()] for count in findings.counts])
    orphans = findings.orphans
    typer.echo(f"{len(orphans)} sketches whose instance has no photo" + (f", such as {orphans[0]}" if orphans else ""))
    typer.echo(f"{findings.repeated} images repeat another of their split byte for byte")
    for path, reason in findings.passed_over:
        typer.echo(f"passed over: {path} ({reason})")
    for fault in findings.faults:
        typer.echo(f"FAULT: {fault}")
    save_picture(training_batch(findings.dataset, Sbir(size=size)), picture)
    typer.echo(f"a training batch: {picture}")
    if findings.faults:
        raise typer.Exit(1)
