"""Options that several commands share, and their readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sbirlib.documents import read_rows, scalar
from sbirlib.errors import InputError
from sbirlib.options import Text

if TYPE_CHECKING:
    from sbirlib.data.dataset import Dataset
    from sbirlib.pipeline import Pipeline

DATA = (
    "'synthetic'; a folder with sketch/<class>/ and photo/<class>/, or with manifest.csv; a published one, such as sketchy:FOLDER; "
    "a file of `sbirlib pack`"
)
Data = Annotated[str, typer.Option(help=DATA)]
Split = Annotated[
    str | None, typer.Option(help="FILE.json:NAME/SPLIT, unseen classes 'moon,sun', 'seed:0', or one that is published with it")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE for any key of the recipe, such as losses.balanced_triplet.margin=0.3; repeatable"),
]
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="a saved model, or the name or TOML file of a recipe that needs no training, as clip")
]
SetModel = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="KEY=VALUE for any key of the recipe, where MODEL is one, as encoder.weights=FILE; or of a model without its tower; repeatable",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one")]
OfIndex = Annotated[Path, typer.Option(help="a folder made by `sbirlib index`")]
Verify = Annotated[
    bool | None,
    typer.Option("--verify/--no-verify", help="read every file whole first; so is an index of up to 256 MiB unless --no-verify"),
]
Fields = Annotated[Path | None, typer.Option(help="a CSV file with a column 'path' and others, by which a search can be narrowed")]
SkipBad = Annotated[bool, typer.Option(help="leave out unreadable images, and list them")]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="refuse an image of more pixels than this; 64,000,000 unless given")]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest entry."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        typer.echo("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def open_dataset(data: str, split: str | None, skip_bad: bool, max_pixels: int | None = None) -> Dataset:
    """The dataset of --data and --split, with the options of reading that were given."""
    from sbirlib.data.named import dataset

    return dataset(data, split, **_reading(skip_bad, max_pixels))


def open_unsplit(data: str, skip_bad: bool, max_pixels: int | None = None) -> Dataset:
    """The dataset as it lies, with the options of reading that were given."""
    from sbirlib.data.named import opened

    return opened(data, **_reading(skip_bad, max_pixels))


def _reading(skip_bad: bool, max_pixels: int | None) -> dict[str, Any]:
    options = {"skip_bad": skip_bad or None, "max_pixels": max_pixels}
    return {name: value for name, value in options.items() if value is not None}


def settings(pairs_: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE pairs; a value is read later, as the type of its option says."""
    return {key: Text(text) for key, text in pairs(pairs_, "--set")}


def open_model(model: str, changes: Mapping[str, Any]) -> Pipeline:
    """A saved model, with the place of its tower's weights if need be, or a recipe by its name or TOML file with these changes."""
    from sbirlib import load
    from sbirlib.recipe_file import names_recipe

    if (others := [key for key in changes if not key.endswith(".weights")]) and not names_recipe(model):
        raise InputError(f"{model} is no recipe but a saved model, which stays as it was trained: leave out --set {others[0]}=...")
    return load(model, **changes)


def pairs(texts: list[str] | None, option: str, form: str = "KEY=VALUE") -> list[tuple[str, str]]:
    """KEY=VALUE as its key and its value; without either it is refused, by the option's name."""
    split = [pair.partition("=") for pair in texts or []]
    for key, equals, text in split:
        if not equals or not key:
            raise InputError(f"{option} takes {form}, got {key + equals + text!r}")
    return [(key, text) for key, _, text in split]


def read_fields(path: Path | None) -> dict[str, dict[str, Any]] | None:
    """The fields of each photo, by path, from a CSV file."""
    if path is None:
        return None
    fields: dict[str, dict[str, Any]] = {}
    for number, row in read_rows(path, ["path"], expected="--fields takes a CSV file with a column 'path' and others"):
        photo = row.pop("path")
        if not photo or photo in fields:
            raise InputError(
                f"{path}, line {number}: the path {photo!r} is {'there twice' if photo else 'empty'}: give each photo one line"
            )
        fields[photo] = {field: scalar(value) for field, value in row.items()}
    return fields
