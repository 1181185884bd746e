"""The command line: each verb is one call of the public API."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sbirlib import registry
from sbirlib.errors import InputError

if TYPE_CHECKING:
    from sbirlib.data.dataset import Dataset

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
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="also write the metrics as JSON")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Measure a saved model."""
    from sbirlib import load
    from sbirlib.files import whole_file

    dataset = _dataset(data, split, skip_bad)
    metrics = load(checkpoint).evaluate(dataset, device=device)
    typer.echo(dataset.describe())
    for name, value in metrics.items():
        typer.echo(f"{name:24}{value:.4f}")
    if out is not None:
        about = {"checkpoint": str(checkpoint), "data": dataset.name, "split": dataset.split_name, "digest": dataset.split_digest}
        with whole_file(out) as partial:
            partial.write_text(json.dumps({**about, "metrics": metrics}, indent=1) + "\n", encoding="utf-8")


@app.command()
def embed(
    checkpoint: Path,
    images: Path,
    out: Annotated[Path, typer.Option(help="a safetensors file: 'vectors', and the paths in its metadata")],
    sketches: Annotated[bool, typer.Option(help="embed as queries, not as gallery")] = False,
    device: Device = None,
    skip_bad: SkipBad = False,
) -> None:
    """Turn a folder of images into vectors."""
    from sbirlib import load
    from sbirlib.data.folder import images as open_images
    from sbirlib.training.checkpoint import write

    pipeline = load(checkpoint)
    found = open_images(images, modality="sketch" if sketches else "photo", skip_bad=skip_bad)
    vectors = pipeline.embed(found, role="query" if sketches else "gallery", device=device)
    write(out, {"vectors": vectors}, {"recipe_digest": pipeline.recipe.digest, "paths": [found.key(i) for i in range(len(found))]})
    typer.echo(f"{len(found)} images as vectors {list(vectors.shape)} in {out}")


@app.command()
def index(
    checkpoint: Path,
    photos: Path,
    out: Annotated[Path, typer.Option(help="the index: one folder, which holds all that search needs")],
    device: Device = None,
    skip_bad: SkipBad = False,
) -> None:
    """Make a folder of photos searchable."""
    from sbirlib import load
    from sbirlib.data.folder import images as open_images

    made = load(checkpoint).index(open_images(photos, skip_bad=skip_bad), device=device)
    made.save(out)
    typer.echo(f"{len(made)} photos indexed in {out}; search them: sbirlib search SKETCH.png --index {out}")


@app.command()
def search(
    sketch: Path,
    index: Annotated[Path, typer.Option(help="a folder made by `sbirlib index`")],
    k: Annotated[int, typer.Option("-k", help="how many photos")] = 10,
    grid: Annotated[Path | None, typer.Option(help="where the picture goes; SKETCH-found.png unless given")] = None,
) -> None:
    """Print the photos that a sketch means, best first, and draw them."""
    from sbirlib import open_index
    from sbirlib.visual.grid import save_picture

    opened = open_index(index)
    for hit in opened.search(sketch, k):
        typer.echo(f"{hit.rank:3}  {hit.score:.4f}  {hit.path}" + (f"  ({hit.category})" if hit.category else ""))
    picture = grid or sketch.with_name(f"{sketch.stem}-found.png")
    save_picture(opened.grid([sketch], k=k), picture)
    typer.echo(f"picture: {picture}")


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
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--set takes KEY=VALUE, got {pair!r}")
        try:
            settings[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = text
    return settings


def main() -> None:
    """Run a command; what the user can mend is one line on stderr, without a traceback."""
    try:
        app()
    except InputError as error:
        print(f"sbirlib: {error}", file=sys.stderr)
        sys.exit(2)
