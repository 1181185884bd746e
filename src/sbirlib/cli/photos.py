"""Verbs that index photos and search them."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from sbirlib.cli.options import (
    Device,
    Fields,
    MaxPixels,
    ModelName,
    OfIndex,
    SetModel,
    SkipBad,
    Verify,
    open_model,
    pairs,
    read_fields,
    settings,
)
from sbirlib.documents import decoded, scalar
from sbirlib.errors import InputError, printable
from sbirlib.processes import rank

if TYPE_CHECKING:
    from sbirlib.data.dataset import Dataset
    from sbirlib.hits import Hit

GRID = 50  # sketches in one picture
PATH = 65_536  # bytes of the longest path


def encode(
    model: ModelName,
    images: Path,
    out: Annotated[Path, typer.Option(help="a folder; run the same again after a stop, and it goes on")],
    sketches: Annotated[bool, typer.Option(help="encode as queries, not as gallery")] = False,
    set_: SetModel = None,
    fields: Fields = None,
    rows: Annotated[int, typer.Option(help="images to a file")] = 8192,
    device: Device = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Encode any number of images into files of vectors; under torchrun each process makes its share."""
    from sbirlib.encoding import encode_to

    pipeline = open_model(model, settings(set_))
    dataset = _open_images(images, "sketch" if sketches else "photo", skip_bad, max_pixels)
    side: Literal["query", "gallery"] = "query" if sketches else "gallery"
    files = encode_to(pipeline, dataset, out, side=side, fields=read_fields(fields), rows=rows, device=device)
    again = shlex.join(["sbirlib", "index", model, str(out), *(word for pair in set_ or () for word in ("--set", pair))])
    typer.echo(f"{len(dataset)} images, of which this process has {len(files)} files in {out}; index them: {again} --out INDEX")


def index(
    model: ModelName,
    photos: Annotated[Path, typer.Argument(help="a folder of photos, or of vectors made by `sbirlib encode`")],
    out: Annotated[Path, typer.Option(help="folder of the index, which holds all that a search needs")],
    kind: Annotated[str, typer.Option(help="one of `sbirlib list index`")] = "flat",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE for an option of the index, as nprobe=32, or a key of the recipe, as encoder.weights=FILE; repeatable"
        ),
    ] = None,
    fields: Fields = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Make a folder of photos searchable."""
    from sbirlib.encoding import FILES, index_encoded
    from sbirlib.retrieval.indexes.manifest import MANIFEST

    of_recipe, of_index = _divided(settings(set_))
    options = {"name": kind, **of_index}
    encoded = any(photos.glob(FILES))
    if (out / MANIFEST).is_file():
        command = shlex.join(["sbirlib", "sync", str(photos), "--index", str(out)])
        way = "" if encoded else f": `{command}` takes in what is new and drops what is gone"
        raise InputError(f"{out} is an index already{way}; to index anew, choose another folder, or remove this one first")
    pipeline = open_model(model, of_recipe)
    if encoded:
        if fields is not None:
            raise InputError(f"{photos} holds vectors, whose fields were written with them: give --fields to `sbirlib encode`")
        search_index = index_encoded(pipeline, photos, kind=options)
    else:
        with _warnings_last():
            dataset = _open_images(photos, "photo", skip_bad, max_pixels, check=not skip_bad)
            search_index = pipeline.index(dataset, kind=options, fields=read_fields(fields), skip_bad=skip_bad, device=device)
    search_index.save(out)
    typer.echo(
        f"{len(search_index)} photos indexed in {out}; draw: sbirlib serve {out}; or search: sbirlib search SKETCH.png --index {out}"
    )


def _divided(changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a recipe, which are dotted or its own keys, and those of an index."""
    from sbirlib.options import options_of
    from sbirlib.recipe import Recipe

    of_recipe = {key: value for key, value in changes.items() if "." in key or key in options_of(Recipe)}
    return of_recipe, {key: value for key, value in changes.items() if key not in of_recipe}


def add(
    photos: Annotated[Path, typer.Argument(help="a folder of photos, or one photo")],
    index: OfIndex,
    fields: Fields = None,
    verify: Verify = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Make more photos searchable; those that are in the index already are ignored."""
    from sbirlib import open_index

    search_index = open_index(index, verify=verify)
    with _warnings_last():
        dataset = _open_images(photos, "photo", skip_bad, max_pixels, check=not skip_bad)
        before, present = len(search_index), set(search_index.index.paths())
        old = {name for i in range(len(dataset)) if dataset.path(i) in present for name in (dataset.path(i), dataset.key(i))}
        new = [i for i in range(len(dataset)) if dataset.path(i) not in present]
        if new:
            more = {path: own for path, own in (read_fields(fields) or {}).items() if path not in old}
            search_index.add(dataset.subset(new), fields=more, skip_bad=skip_bad, device=device)
            search_index.save(index)
    typer.echo(f"{len(search_index) - before} photos added, {len(dataset) - len(new)} were there already; {len(search_index)} in {index}")


def sync(
    photos: Annotated[Path, typer.Argument(help="the folder of photos")],
    index: OfIndex,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would change, and change nothing")] = False,
    verify: Verify = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Bring an index in step with its folder: add new photos, remove those that are gone, encode changed ones anew."""
    from sbirlib import open_index
    from sbirlib.data.images import MAX_PIXELS

    search_index = open_index(index, verify=verify)
    with _warnings_last():
        changes = search_index.sync(
            photos, out=index, skip_bad=skip_bad, dry_run=dry_run, max_pixels=max_pixels or MAX_PIXELS, device=device
        )
    counts = {"added": changes.added, "removed": changes.removed, "changed": changes.changed}
    if dry_run:
        counts["to be looked at, of which nothing is known"] = changes.unknown
        for name, paths in counts.items():
            for path in paths:
                typer.echo(printable(f"{name.partition(',')[0]}: {path}"))
    summary = ", ".join(f"{len(paths)} {name}" for name, paths in counts.items() if paths or name in ("added", "removed", "changed"))
    bad = f", {len(changes.bad)} bad" if changes.bad else ""
    end = "nothing was done (--dry-run)" if dry_run else f"{len(search_index)} in {index}"
    typer.echo(f"{summary}, {changes.kept} kept{bad}; {end}")


def remove(
    photos: Annotated[list[Path], typer.Argument(help="paths, as search prints them")], index: OfIndex, verify: Verify = None
) -> None:
    """Remove photos from an index; the files themselves stay."""
    from sbirlib import open_index

    search_index = open_index(index, verify=verify)
    search_index.remove([str(path) for path in photos])
    search_index.save(index)
    typer.echo(f"{len(photos)} photos removed; {len(search_index)} in {index}")


def search(
    sketch: Annotated[
        str, typer.Argument(help="a sketch, a folder of sketches, or - to read their paths from standard input, line by line")
    ],
    index: OfIndex,
    k: Annotated[int, typer.Option("-k", "--k", help="how many photos")] = 10,
    where: Annotated[
        list[str] | None, typer.Option(help="FIELD=VALUE: only photos with it, such as category=cat; the same field again: or this one")
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="one line of JSON for each sketch, and no picture unless --grid asks for it")
    ] = False,
    grid: Annotated[Path | None, typer.Option(help="file for the picture; SKETCH-found.png in the current folder unless given")] = None,
    verify: Verify = None,
    device: Device = None,
) -> None:
    """Print the best photos for a sketch, best first, and draw them."""
    from sbirlib import open_index
    from sbirlib.data.folder import images
    from sbirlib.search import decoded_once
    from sbirlib.visual.layout import save_picture

    search_index = open_index(index, verify=verify)
    filters: dict[str, list[Any]] = {}
    for name, value in pairs(where, "--where", "FIELD=VALUE"):
        filters.setdefault(name, []).extend({scalar(value), value})  # a class may be called 7, as a text
    if sketch == "-":
        for line in filter(None, map(bytes.strip, _lines(sys.stdin.buffer))):
            path = line.decode("utf-8", "replace")
            try:
                dataset = images([decoded(line, "standard input")], modality="sketch")
                _print_hits(dataset, search_index.search_all(dataset, k, filters, device=device), json_)
            except InputError as error:  # the next line may be better
                message = str(error)[:2000]
                typer.echo(json.dumps({"sketch": path, "error": message}) if json_ else f"sbirlib: {printable(message)}", err=not json_)
            sys.stdout.flush()
        return
    dataset = decoded_once(images(sketch, modality="sketch"), GRID)
    hits = search_index.search_all(dataset, k, filters, device=device)
    _print_hits(dataset, hits, json_)
    if filters and not any(hits):
        raise InputError(f"no photo in {index} has {', '.join(where or [])}: sbirlib search without --where shows the fields of its hits")
    here = None if json_ else Path(f"{Path(sketch).resolve().stem}-found.png")  # beside the sketch it would join the dataset
    picture = grid or here
    if picture is not None:
        save_picture(search_index.picture(dataset.subset(slice(GRID)), hits[:GRID]), picture)
        typer.echo(f"picture: {picture}", err=json_)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream, each cut at a length that no path has."""
    while line := stream.readline(PATH):
        rest = line
        while len(rest) == PATH and not rest.endswith(b"\n"):
            rest = stream.readline(PATH)
        yield line


def _open_images(
    source: Path, modality: Literal["sketch", "photo"], skip_bad: bool, max_pixels: int | None, *, check: bool = True
) -> Dataset:
    from sbirlib.data.folder import images
    from sbirlib.data.images import MAX_PIXELS

    return images(source, modality=modality, skip_bad=skip_bad, max_pixels=max_pixels or MAX_PIXELS, check=check)


@contextmanager
def _warnings_last() -> Iterator[None]:
    """Print the warnings of the block when it ends, with the lists of files that were left out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in caught if rank() == 0 else ():
                typer.echo(f"sbirlib: {printable(str(warning.message), lines=True)}", err=True)


def _print_hits(sketches: Dataset, hits: Sequence[Sequence[Hit]], as_json: bool) -> None:
    """Print the hits of each sketch, as lines of JSON or as a table."""
    for i, row in enumerate(hits):
        if as_json:
            ranking = [{**hit.record, "rank": hit.rank, "score": hit.score} for hit in row]
            typer.echo(json.dumps({"sketch": sketches.path(i), "hits": ranking}))
            continue
        if len(hits) > 1:
            typer.echo(printable(sketches.path(i)))
        for hit in row:
            typer.echo(printable(f"{hit.rank:3}  {hit.score:.4f}  {hit.path}" + (f"  ({hit.category})" if hit.category else "")))
