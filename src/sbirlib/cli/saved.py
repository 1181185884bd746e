"""Verbs of files that the library has written: verification, and conversion to the present format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(path: Annotated[Path, typer.Argument(help="an index, a run, a folder of vectors, or one file of these")]) -> None:
    """Read every file whole and hold it against its digest; fails where one is damaged."""
    from sbirlib.verification import verify as verify_files

    findings = verify_files(path)
    for finding in findings:
        typer.echo(f"{finding.state:9}  {finding.path}" + (f": {finding.cause}" if finding.cause else ""))
    damaged = sum(finding.state == "damaged" for finding in findings)
    typer.echo(f"{damaged} of {len(findings)} files {'is' if damaged == 1 else 'are'} damaged")
    if damaged:
        raise typer.Exit(1)


def upgrade(index: Annotated[Path, typer.Argument(help="an index of the format before this one")]) -> None:
    """Rewrite an index of the earlier format; photos, ids and the encoder stay."""
    from sbirlib.retrieval.indexes.upgrade import upgrade as rewrite

    typer.echo(f"{len(rewrite(index))} photos in {index}")
