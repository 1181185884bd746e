"""Verb that packs a dataset into one file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sbirlib.cli.options import DATA, MaxPixels, SkipBad, Split
from sbirlib.errors import InputError


class Stage(StrEnum):
    """The splits of a dataset."""

    train = "train"
    validation = "validation"
    test = "test"


def pack(
    data: Annotated[str, typer.Argument(help=DATA)],
    out: Annotated[Path, typer.Option(help="file of the packed dataset; ends in .pack")],
    size: Annotated[int, typer.Option(help="largest number of pixels on the shorter side of an image")] = 256,
    jpeg: Annotated[int | None, typer.Option(help="quality of photos as JPEG, sketches being PNG; pixels unless given")] = None,
    split: Split = None,
    only: Annotated[Stage | None, typer.Option(help="the images of one split of --split alone")] = None,
    workers: Annotated[int | None, typer.Option(help="threads; all cores unless given")] = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Write all images of a dataset into one file, shrunk, which every command takes where it takes a folder. Say it again after a kill."""
    from sbirlib.cli.options import open_unsplit
    from sbirlib.data.packed import pack as pack_dataset
    from sbirlib.data.split import split as split_dataset

    if only is not None and split is None:
        raise InputError("--only names a split of --split: say which")
    dataset = open_unsplit(data, skip_bad, max_pixels)
    if split is not None:
        dataset = split_dataset(dataset, split)
    if only is not None:
        dataset = dataset.select(only.value)
    result = pack_dataset(dataset, out, size=size, jpeg=jpeg, workers=workers)
    typer.echo(f"{result.describe()}\n{out}: {out.stat().st_size / 1e6:,.1f} MB")
