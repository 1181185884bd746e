"""The command line: each verb is one call of the public API."""

from __future__ import annotations

import csv
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sbirlib import registry
from sbirlib.errors import InputError

if TYPE_CHECKING:
    from sbirlib.data.dataset import Dataset
    from sbirlib.search import Hit

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sketch-based image retrieval: draw, and the photos you mean come back.",
)

plugins_app = typer.Typer(add_completion=False)
app.add_typer(plugins_app, name="plugins")
data_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look at a dataset before anything trains on it.")
app.add_typer(data_app, name="data")

DATA = "'synthetic'; a folder with sketch/<class>/ and photo/<class>/, or with manifest.csv; a published one, such as sketchy:FOLDER"
Data = Annotated[str, typer.Option(help=DATA)]
Split = Annotated[
    str | None, typer.Option(help="FILE.json:NAME/SPLIT, unseen classes 'moon,sun', 'seed:0', or one that is published with it")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE for any key of the recipe, such as phases.0.steps=300; repeatable")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one")]
OfIndex = Annotated[Path, typer.Option(help="a folder made by `sbirlib index`")]
Fields = Annotated[Path | None, typer.Option(help="a CSV file with a column 'path' and others, by which a search can be narrowed")]
GRID = 50  # sketches in one picture
SkipBad = Annotated[bool, typer.Option(help="leave out unreadable images, and list them")]


@app.command()
def demo(out: Annotated[Path, typer.Option(help="where the model and the picture go")] = Path("demo"), seed: int = 0) -> None:
    """Train MATHM on the embedded synthetic set, and look at what it finds for categories it was never shown."""
    from sbirlib.demo import demo as run

    run(out, seed=seed)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help=", ".join(registry.GROUPS))] = None,
    pattern: Annotated[str, typer.Argument(help="a wildcard, such as '*hm*'")] = "*",
) -> None:
    """Every part that is installed, by kind; imports none of them."""
    for each in [kind] if kind else registry.GROUPS:
        names = registry.list_parts(each, pattern)
        if names or kind:
            typer.echo(f"{each:10} {'  '.join(names)}" if not kind else "\n".join(names))


@app.command()
def show(name: str) -> None:
    """A recipe whole, or a part with its options and what it does."""
    import inspect

    plain = name.partition(":")[0]
    kinds = [k for k in registry.GROUPS if plain.partition("@")[0] in registry.list_parts(k)]
    if name.endswith(".toml") or "recipe" in kinds:
        from sbirlib import recipe

        typer.echo(json.dumps(recipe.Recipe.of(recipe.read(name)).check().tables(), indent=1))
        kinds = [k for k in kinds if k != "recipe"]
    elif not kinds:
        known = [n for k in registry.GROUPS for n in registry.list_parts(k)]
        from sbirlib.errors import nearest

        raise InputError(f"nothing is named {name!r}{nearest(name, known)}")
    for kind in kinds:
        source = registry.entry(kind, plain).source
        typer.echo(f"{kind} {name} ({source})\n{inspect.getdoc(registry.load(kind, name)) or ''}")
        for option, parameter in registry.options(kind, name).items():
            typer.echo(f"  {parameter}" if parameter.default is not parameter.empty else f"  {option} (filled in, or needed)")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="a recipe's name or TOML file")],
    data: Data,
    split: Split = None,
    set_: Set = None,
    begin: Annotated[
        list[str] | None, typer.Option(help="PART=MODEL: begin with that part's weights in a saved model, as encoder=FILE")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the run's folder; runs/<recipe> unless given")] = None,
    resume: Annotated[bool, typer.Option(help="go on from the checkpoint in --out")] = False,
    device: Device = None,
    workers: int = 0,
    seed: int | None = None,
    save_every: int = 500,
    validate_every: int | None = None,
    skip_bad: SkipBad = False,
) -> None:
    """Train, save, and measure on the split's unseen part, before and after."""
    from sbirlib import build

    pipeline = build(recipe, **_settings(set_), **({} if seed is None else {"seed": seed}))
    for part, model in _pairs(begin, "--begin"):
        pipeline.begin_with(model, part)
    dataset = _dataset(data, split, skip_bad)
    folder = out or Path("runs") / pipeline.recipe.name
    typer.echo(dataset.describe())
    before = None if resume else pipeline.evaluate(dataset, device=device)
    pipeline.fit(dataset, out=folder, resume=resume, device=device, workers=workers, save_every=save_every, validate_every=validate_every)
    pipeline.export(folder / "model.safetensors")
    after = pipeline.evaluate(dataset, device=device)
    for name, value in after.items():
        typer.echo(f"{name:24}{'' if before is None else f'{before[name]:.3f} -> '}{value:.3f}")
    typer.echo(
        f"search your own photos: sbirlib index {folder / 'model.safetensors'} PHOTOS --out INDEX, then sbirlib search SKETCH.png --index INDEX"
    )


@app.command("eval")
def eval_(
    checkpoint: Path,
    data: Data,
    split: Split = None,
    metrics: Annotated[list[str] | None, typer.Option(help="by name, such as mAP@200; repeatable; the recipe's own unless given")] = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="also write it all as JSON, class by class too")] = None,
    worst: Annotated[Path | None, typer.Option(help="also draw the queries that found least")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Measure a saved model: each metric with its definition, its interval over classes and queries, and what was left out."""
    from sbirlib import load
    from sbirlib.evaluation import evaluation, worst_queries
    from sbirlib.files import whole_file
    from sbirlib.visual.grid import save_picture

    dataset = _dataset(data, split, skip_bad)
    pipeline = load(checkpoint)
    typer.echo(dataset.describe())
    found = evaluation(pipeline, dataset, metrics=metrics, device=device)
    heads = ("evaluator", "metric", "value", "95 % interval", "left out", "what it is")
    _table(heads, [line.cells() for line in found.lines])
    if out is not None:
        about = {"checkpoint": str(checkpoint), "data": dataset.name, "split": dataset.split_name, "digest": dataset.split_digest}
        with whole_file(out) as partial:
            partial.write_text(json.dumps({**about, **found.tables()}, indent=1) + "\n", encoding="utf-8")
    if worst is not None:
        save_picture(worst_queries(found, dataset), worst)
        typer.echo(f"the queries that found least: {worst}")


@app.command()
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
    written = embed_to(load(checkpoint), found, out, role=role, fields=_fields(fields), rows=rows, device=device)
    typer.echo(
        f"{len(found)} images, of which this process has {len(written)} files in {out}; index them: sbirlib index {checkpoint} {out} --out INDEX"
    )


@app.command()
def index(
    checkpoint: Path,
    photos: Annotated[Path, typer.Argument(help="a folder of photos, or of vectors that `sbirlib embed` made")],
    out: Annotated[Path, typer.Option(help="the index: one folder, which holds all that search needs")],
    kind: Annotated[str, typer.Option(help="one of `sbirlib list index`")] = "flat",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE for an option of the index, such as probes=32; repeatable")
    ] = None,
    fields: Fields = None,
    device: Device = None,
    skip_bad: SkipBad = False,
) -> None:
    """Make a folder of photos searchable."""
    from sbirlib import load
    from sbirlib.data.folder import images as open_images
    from sbirlib.embedding import PARTS, index_embedded

    options = {"name": kind, **_settings(set_)}
    if any(photos.glob(PARTS)):
        if fields is not None:
            raise InputError(f"{photos} holds vectors, whose fields were written with them: give --fields to `sbirlib embed`")
        made = index_embedded(load(checkpoint), photos, kind=options)
    else:
        made = load(checkpoint).index(open_images(photos, skip_bad=skip_bad), kind=options, fields=_fields(fields), device=device)
    made.save(out)
    typer.echo(f"{len(made)} photos indexed in {out}; search them: sbirlib search SKETCH.png --index {out}")


@app.command()
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
        opened.add(found.subset(new), fields={path: more for path, more in (_fields(fields) or {}).items() if path not in old})
        opened.save(index)
    typer.echo(f"{len(new)} photos added, {len(found) - len(new)} were there already; {len(opened)} in {index}")


@app.command()
def remove(photos: Annotated[list[Path], typer.Argument(help="paths, as search prints them")], index: OfIndex) -> None:
    """Let an index forget photos; the files themselves stay."""
    from sbirlib import open_index

    opened = open_index(index)
    opened.remove([str(path) for path in photos])
    opened.save(index)
    typer.echo(f"{len(photos)} photos removed; {len(opened)} in {index}")


@app.command()
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
    from sbirlib.visual.grid import save_picture

    opened = open_index(index)
    only: dict[str, list[Any]] = {}
    for field, value in _pairs(where, "--where"):
        only.setdefault(field, []).extend({_scalar(value), value})  # a class may be called 7, as a text

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


@plugins_app.callback(invoke_without_command=True)
def plugins(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="import each, and say which cannot be used and why")] = False,
) -> None:
    """Which distribution offers which part; `plugins new` writes a new one."""
    if context.invoked_subcommand is not None:
        return
    if check:
        from sbirlib.plugins import states

        rows = states()
        _table(("kind", "part", "distribution", "version", "state", "cause"), [[str(v) for v in vars(row).values()] for row in rows])
        if any(row.state != "ok" for row in rows):
            raise typer.Exit(1)
        return
    for found in registry.found().entries:
        typer.echo(f"{found.kind:10} {found.name:20} {found.source:24} {found.module}{':' if found.attribute else ''}{found.attribute}")
    for distribution, cause in registry.found().unreadable:
        typer.echo(f"unreadable: {distribution}: {cause}", err=True)


@plugins_app.command()
def new(
    name: Annotated[str, typer.Argument(help="the part's name, such as my_loss; the distribution is then sbirlib-my-loss")],
    kind: Annotated[str, typer.Option(help="encoder, miner, loss, evaluator or recipe")],
    folder: Annotated[Path, typer.Option(help="where the distribution's folder goes")] = Path("."),
) -> None:
    """Write a plugin distribution that can be installed and passes every check, to be changed."""
    from sbirlib.skeleton import new_plugin

    made = new_plugin(name, kind=kind, folder=folder)
    typer.echo(f"{made} offers the {kind} {name}; next: cd {made} && pip install -e . && pytest")


@data_app.command()
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
    from sbirlib.visual.grid import save_picture

    found = examined(source, split)
    typer.echo(found.dataset.describe())
    heads = ("role", "classes", "sketches", "photos", "sketches a class", "photos a class")
    _table(heads, [[str(v) if not isinstance(v, tuple) else f"{v[0]} to {v[1]}" for v in vars(count).values()] for count in found.counts])
    typer.echo(f"{len(found.orphans)} sketches whose instance has no photo" + (f", such as {found.orphans[0]}" if found.orphans else ""))
    typer.echo(f"{found.repeated} images repeat another of their part byte for byte")
    for fault in found.faults:
        typer.echo(f"FAULT: {fault}")
    save_picture(training_batch(found.dataset, Sbir(size=size)), picture)
    typer.echo(f"a training batch: {picture}")
    if found.faults:
        raise typer.Exit(1)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest entry."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        typer.echo("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def _dataset(data: str, split: str | None, skip_bad: bool) -> Dataset:
    from sbirlib.data.named import dataset

    return dataset(data, split, **({"skip_bad": True} if skip_bad else {}))


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE pairs, the value as TOML writes it, or else plain text."""
    settings: dict[str, Any] = {}
    for key, text in _pairs(pairs, "--set"):
        try:
            settings[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = text
    return settings


def _pairs(pairs: list[str] | None, option: str) -> list[tuple[str, str]]:
    split = [pair.partition("=") for pair in pairs or []]
    for key, equals, text in split:
        if not equals or not key:
            raise InputError(f"{option} takes KEY=VALUE, got {key + equals + text!r}")
    return [(key, text) for key, _, text in split]


def _fields(path: Path | None) -> dict[str, dict[str, Any]] | None:
    """The fields of each photo, by path, from a CSV file."""
    if path is None:
        return None
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}: --fields takes a CSV file with a column 'path' and others")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, 2):
        if not row.get("path") or None in row or None in row.values():
            raise InputError(f"{path}, line {number}: a column 'path' and a value in each column are needed, got {row}")
    return {row.pop("path"): {field: _scalar(value) for field, value in row.items()} for row in rows}


def _scalar(text: str) -> str | int | float | bool:
    """A whole number, a number, true or false as such; all else is text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, int | float | bool) else text


def main() -> None:
    """Run a command; what the user can mend is one line on stderr, without a traceback."""
    try:
        app()
    except InputError as error:
        print(f"sbirlib: {error}", file=sys.stderr)
        sys.exit(2)
