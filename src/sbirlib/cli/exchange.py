"""Verbs that hand a model to others: as a file, as ONNX files, and through the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sbirlib.cli.options import ModelName, SetModel, open_model, settings
from sbirlib.errors import InputError


def export(
    model: ModelName,
    onnx: Annotated[Path | None, typer.Option(help="a folder for the ONNX files and preparation.json, which says how to use them")] = None,
    out: Annotated[Path | None, typer.Option(help="a file of the encoder for sbirlib, without losses")] = None,
    whole: Annotated[
        bool,
        typer.Option("--whole/--adapter", help="all weights, or without the pretrained ones that training left as they were"),
    ] = True,
    set_: SetModel = None,
) -> None:
    """Write the encoder as one file, or as ONNX files for programs without sbirlib, which are compared with torch."""
    if onnx is None and out is None:
        raise InputError("nothing to write: give --onnx FOLDER, or --out FILE")
    if out is None and not whole:
        raise InputError("--adapter goes with --out: ONNX files hold all weights")
    from sbirlib.training.checkpoint import read_model

    pipeline = open_model(model, settings(set_))
    if out is not None:
        pipeline.export(out, whole=whole)
        towers = read_model(out)[1].towers or {}
        typer.echo(f"{out}: {out.stat().st_size:,} bytes")
        for path, tower in towers.items():
            typer.echo(f"left out: {tower.bytes:,} bytes of {path}, which load takes from where the recipe does")
    if onnx is not None:
        from sbirlib.exchange.onnx import export_onnx

        exported = export_onnx(pipeline, onnx)
        for file in exported.files:
            typer.echo(f"{file}: {file.stat().st_size:,} bytes")
        typer.echo(f"largest difference from torch's vectors, for random images: {exported.difference:.1e}")


def push(
    model: ModelName,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="a repository of the Hub; it is made where it is not there")],
    private: Annotated[bool, typer.Option("--private", help="make a new repository private, and refuse one that is public")] = False,
    licence: Annotated[str | None, typer.Option(help="the Hub's identifier of the model's licence, such as apache-2.0")] = None,
    evaluation: Annotated[Path | None, typer.Option(help="the JSON of `sbirlib eval --out`, whose metrics the model's card shows")] = None,
    set_: SetModel = None,
) -> None:
    """Upload a model with its card to the Hugging Face Hub; others load it as hf:OWNER/NAME."""
    from sbirlib.exchange.hub import push_to_hub

    pipeline = open_model(model, settings(set_))
    commit = push_to_hub(pipeline, repository, private=private, licence=licence, evaluation=evaluation)
    typer.echo(f"{commit}\nload it: sbirlib index hf:{repository} PHOTOS --out INDEX")
