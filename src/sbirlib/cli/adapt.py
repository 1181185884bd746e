"""Verb that adapts an index to its users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sbirlib.cli.options import OfIndex
from sbirlib.errors import InputError

if TYPE_CHECKING:
    from sbirlib.retrieval.paired import Difference


def adapt(
    index: OfIndex,
    feedback: Annotated[Path | None, typer.Option(help="FILE.jsonl, as `sbirlib serve --feedback` keeps it")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the parts that are held out")] = 0,
    reset: Annotated[bool, typer.Option("--reset", help="take the head away again")] = False,
) -> None:
    """Learn from users' judgements how their drawings differ, and search under it, if held-out judgements say that it helps."""
    from sbirlib import adaptation

    if reset == (feedback is not None):
        raise InputError("give --feedback FILE to learn from, or --reset alone to take away what was learnt")
    if feedback is None:
        typer.echo("the head is gone" if adaptation.reset(index) else f"{index} has no head")
        return
    result = adaptation.adapt(index, feedback, seed=seed)
    typer.echo(
        f"{result.answers} right photos, each ranked by a head that learnt from others: of the wrong photos of the same drawing {result.before:.0%} "
        f"came after it, now {result.after:.0%} (95 % interval of the difference {_interval(result.over_before)}); under a control that learnt from "
        f"exchanged drawings {result.control:.0%} (difference {_interval(result.over_control)})"
    )
    if not result.helps:
        raise InputError(f"the head is not saved, for its help is not certain: {index} is as it was. Collect more judgements")
    typer.echo(f"saved: {index} is searched under it, by running servers too; `sbirlib adapt --index {index} --reset` takes it away")


def _interval(difference: Difference) -> str:
    return f"{difference.low:+.0%} to {difference.high:+.0%}"
