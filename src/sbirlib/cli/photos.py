"""Photos made searchable, and searched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sbirlib.cli.options import Device, Fields, OfIndex, SkipBad, pairs, read_fields, scalar, settings
from sbirlib.errors import InputError

if TYPE_CHECKING:
    from sbirlib.search import Hit

GRID = 50  # sketches in one picture


def embed(
    checkpoint: Path,
    images: Path,
    out: Annotated[Path, typer.Option(help="a folder; run the same again after a stop, and it goes on")],
    sketches: Annotated[bool, typer.Option(help="embed as queries, not as gallery")] = False,
    fields: Fields = None,
    rows: Annotated[int, typer.Option(help="images to a file")] = 8192,
    device: Device = None,
    skip_bad: SkipBad = False,
) -> None:
    """Turn any number of images into files of vectors; under torchrun each process makes its share."""
    from sbirlib import load
    from sbirlib.data.folder import images as open_images
    from sbirlib.embedding import embed_to

    found = open_images(images, modality="sketch" if sketches else "photo", skip_bad=skip_bad)
    role: Literal["query", "gallery"] = "query" if sketches else "gallery"
    written = embed_to(load(checkpoint), found, out, role=role, fields=read_fields(fields), rows=rows, device=device)
    typer.echo(
        f"{len(found)} images, of which this process has {len(written)} files in {out}; index them: sbirlib index {checkpoint} {out} --out INDEX"
    )


def index(
    checkpoint: Path,
    photos: Annotated[Path, typer.Argument(help="a folder of photos, or of vectors that `sbirlib embed` made")],
    out: Annotated[Path, typer.Option(help="the index: one folder, which holds all that search needs")],
    kind: Annotated[str, typer.Option(help="one of `sbirlib list index`")] = "flat",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE for an option of the index, such as nprobe=32; repeatable")
    ] = None,
    fields: Fields = None,
    device: Device = None,
    skip_bad: SkipBad = False,
) -> None:
    """Make a folder of photos searchable."""
    from sbirlib import load
    from sbirlib.data.folder import images as open_images
    from sbirlib.embedding import PARTS, index_embedded

    options = {"name": kind, **settings(set_)}
    if any(photos.glob(PARTS)):
        if fields is not None:
            raise InputError(f"{photos} holds vectors, whose fields were written with them: give --fields to `sbirlib embed`")
        made = index_embedded(load(checkpoint), photos, kind=options)
    else:
        made = load(checkpoint).index(open_images(photos, skip_bad=skip_bad), kind=options, fields=read_fields(fields), device=device)
    made.save(out)
    typer.echo(f"{len(made)} photos indexed in {out}; search them: sbirlib search SKETCH.png --index {out}")


def add(
    photos: Annotated[Path, typer.Argument(help="a folder of photos, or one")],
    index: OfIndex,
    fields: Fields = None,
    skip_bad: SkipBad = False,
) -> None:
    """Make more photos searchable; those that are in the index already are passed over."""
    from sbirlib import open_index
    from sbirlib.data.folder import images as open_images

    opened, found = open_index(index), open_images(photos, skip_bad=skip_bad)
    there = set(opened.vectors.paths())
    old = {name for i in range(len(found)) if found.path(i) in there for name in (found.path(i), found.key(i))}
    new = [i for i in range(len(found)) if found.path(i) not in there]
    if new:
        opened.add(found.subset(new), fields={path: more for path, more in (read_fields(fields) or {}).items() if path not in old})
        opened.save(index)
    typer.echo(f"{len(new)} photos added, {len(found) - len(new)} were there already; {len(opened)} in {index}")


def remove(photos: Annotated[list[Path], typer.Argument(help="paths, as search prints them")], index: OfIndex) -> None:
    """Let an index forget photos; the files themselves stay."""
    from sbirlib import open_index

    opened = open_index(index)
    opened.remove([str(path) for path in photos])
    opened.save(index)
    typer.echo(f"{len(photos)} photos removed; {len(opened)} in {index}")


def search(
    sketch: Annotated[
        str, typer.Argument(help="a sketch, a folder of sketches, or - to read their paths from standard input, line by line")
    ],
    index: OfIndex,
    k: Annotated[int, typer.Option("-k", help="how many photos")] = 10,
    where: Annotated[
        list[str] | None, typer.Option(help="FIELD=VALUE: only photos with it, such as category=cat; the same field again: or this one")
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="one line of JSON for each sketch, and no picture unless --grid asks for it")
    ] = False,
    grid: Annotated[Path | None, typer.Option(help="where the picture goes; SKETCH-found.png unless given")] = None,
) -> None:
    """Print the photos that a sketch means, best first, and draw them."""
    from sbirlib import open_index
    from sbirlib.data.folder import images
    from sbirlib.visual.layout import save_picture

    opened = open_index(index)
    only: dict[str, list[Any]] = {}
    for field, value in pairs(where, "--where"):
        only.setdefault(field, []).extend({scalar(value), value})  # a class may be called 7, as a text

    def answer(sketches: list[str]) -> list[list[Hit]]:
        found = opened.search_all(sketches, k, only)
        for name, hits in zip(sketches, found, strict=True):
            if json_:
                ranked = [{"rank": hit.rank, "score": hit.score, **hit.record} for hit in hits]
                typer.echo(json.dumps({"sketch": name, "hits": ranked}))
                continue
            if len(sketches) > 1:
                typer.echo(name)
            for hit in hits:
                typer.echo(f"{hit.rank:3}  {hit.score:.4f}  {hit.path}" + (f"  ({hit.category})" if hit.category else ""))
        return found

    if sketch == "-":
        for line in filter(None, map(str.strip, sys.stdin)):
            try:
                answer([line])
            except InputError as error:  # the next line may be better
                typer.echo(json.dumps({"sketch": line, "error": str(error)}) if json_ else f"sbirlib: {error}", err=not json_)
            sys.stdout.flush()
        return
    drawn = images(sketch, modality="sketch")
    sketches = [drawn.path(i) for i in range(len(drawn))]
    found = answer(sketches)
    place = Path(sketch)
    picture = grid or (None if json_ else place.with_name(f"{place.stem}-found.png"))
    if picture is not None:
        save_picture(opened.picture(sketches[:GRID], found[:GRID]), picture)
        typer.echo(f"picture: {picture}", err=json_)
