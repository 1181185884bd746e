"""A dataset looked at before anything trains on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sbirlib.cli.options import DATA, Split, table


def check(
    source: Annotated[str, typer.Argument(help=DATA)],
    split: Split = None,
    picture: Annotated[Path, typer.Option(help="where the picture of a training batch goes")] = Path("training-batch.png"),
    size: Annotated[int, typer.Option(help="pixels a side in that picture")] = 96,
) -> None:
    """Count what is there, decode and compare every image, and draw a batch as training sees it; fails where something is wrong."""
    from sbirlib.data.check import check as examined
    from sbirlib.data.transforms import Sbir
    from sbirlib.visual.batch import training_batch
    from sbirlib.visual.layout import save_picture

    found = examined(source, split)
    typer.echo(found.dataset.describe())
    heads = ("role", "classes", "sketches", "photos", "sketches a class", "photos a class")
    table(heads, [[str(v) if not isinstance(v, tuple) else f"{v[0]} to {v[1]}" for v in vars(count).values()] for count in found.counts])
    typer.echo(f"{len(found.orphans)} sketches whose instance has no photo" + (f", such as {found.orphans[0]}" if found.orphans else ""))
    typer.echo(f"{found.repeated} images repeat another of their part byte for byte")
    for fault in found.faults:
        typer.echo(f"FAULT: {fault}")
    save_picture(training_batch(found.dataset, Sbir(size=size)), picture)
    typer.echo(f"a training batch: {picture}")
    if found.faults:
        raise typer.Exit(1)
