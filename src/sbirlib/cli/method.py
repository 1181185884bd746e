"""Commands that train and evaluate a method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sbirlib.cli.options import (
    Data,
    Device,
    MaxPixels,
    ModelName,
    Set,
    SetModel,
    SkipBad,
    Split,
    open_dataset,
    open_model,
    pairs,
    settings,
    table,
)


def demo(out: Annotated[Path, typer.Option(help="where the model and the picture go")] = Path("demo"), seed: int = 0) -> None:
    """Train MATHM on the embedded synthetic set, and search photos of categories that it was not trained on."""
    from sbirlib.demo import demo as run

    run(out, seed=seed)


def train(
    recipe: Annotated[str, typer.Argument(help="a recipe's name or TOML file")],
    data: Data,
    split: Split = None,
    set_: Set = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            help="MODULE=MODEL: initialise a module from a saved model, as encoder=FILE; OURS:THEIRS=MODEL where the paths differ"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the run's folder; runs/<recipe> unless given")] = None,
    resume: Annotated[bool, typer.Option(help="go on from the checkpoint in --out")] = False,
    device: Device = None,
    workers: Annotated[int | None, typer.Option(help="processes that read images; chosen from the cores unless given")] = None,
    seed: int | None = None,
    save_every: Annotated[int, typer.Option(help="steps between checkpoints")] = 500,
    save_minutes: Annotated[float | None, typer.Option(help="also minutes between checkpoints")] = None,
    keep: Annotated[int, typer.Option(help="checkpoints whose files stay")] = 1,
    shard: Annotated[bool, typer.Option(help="divide the encoder's weights among the processes of torchrun (FSDP2)")] = False,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Train, save, and evaluate on the test split, before and after; under torchrun with several processes."""
    from sbirlib import build

    pipeline = build(recipe, **settings(set_), **({} if seed is None else {"seed": seed}))
    for module, model in pairs(warm_start, "--warm-start"):
        pipeline.warm_start(model, module)
    dataset = open_dataset(data, split, skip_bad, max_pixels)
    folder = out or Path("runs") / pipeline.recipe.name
    typer.echo(dataset.describe())
    trained = folder / "model.safetensors"
    pipeline.plan(dataset, shard=shard)  # mistakes come out before anything is encoded
    before = None if resume else pipeline.evaluate(dataset, device=device)
    saving: dict[str, Any] = {"save_every": save_every, "save_minutes": save_minutes, "keep": keep}
    pipeline.fit(dataset, out=folder, resume=resume, device=device, workers=workers, shard=shard, **saving)
    (pipeline.save if pipeline.classifies else pipeline.export)(trained)
    after = pipeline.evaluate(dataset, device=device)
    for name, value in after.items():
        typer.echo(f"{name:24}{'' if before is None else f'{before[name]:.3f} -> '}{value:.3f}")
    if pipeline.classifies:
        typer.echo(f"name your own sketches: sbirlib classify {trained} SKETCHES")
    typer.echo(f"search your own photos: sbirlib index {trained} PHOTOS --out INDEX, then sbirlib search SKETCH.png --index INDEX")


def classify(
    model: Annotated[Path, typer.Argument(help="a model that was trained to name sketches, such as one of the recipe landmarks")],
    sketches: Annotated[Path, typer.Argument(help="a sketch, or a folder of sketches")],
    k: Annotated[int, typer.Option("-k", help="how many names")] = 5,
    json_: Annotated[bool, typer.Option("--json", help="one line of JSON for each sketch")] = False,
    device: Device = None,
) -> None:
    """Print the likeliest categories of each sketch, with their probabilities."""
    from sbirlib import load
    from sbirlib.data.folder import images

    dataset = images(sketches, modality="sketch")
    for i, names in enumerate(load(model).classify(dataset, k=k, device=device)):
        if json_:
            typer.echo(json.dumps({"sketch": dataset.path(i), "names": [{"name": name, "probability": p} for name, p in names]}))
        else:
            typer.echo(f"{dataset.path(i)}: " + ", ".join(f"{name} {p:.3f}" for name, p in names))


def ensemble(
    models: Annotated[list[Path], typer.Argument(help="models that were trained to name the same categories")],
    data: Data,
    split: Split = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Weigh several models on the validation split, and evaluate them alone and together."""
    from sbirlib import load
    from sbirlib.ensemble import Ensemble

    dataset = open_dataset(data, split, skip_bad, max_pixels)
    pipelines = [load(model) for model in models]
    typer.echo(dataset.describe())
    together = Ensemble.fit(pipelines, dataset, device=device)
    results = [pipeline.evaluate(dataset, device=device) for pipeline in pipelines] + [together.evaluate(dataset, device=device)]
    names, weights = [*map(str, models), "together"], [*(f"{weight:.3f}" for weight in together.weights.tolist()), ""]
    metrics = list(results[-1])
    rows = [[name, weight, *(f"{of[m]:.4f}" for m in metrics)] for name, weight, of in zip(names, weights, results, strict=True)]
    table(["model", "weight", *metrics], rows)


def eval_(
    model: ModelName,
    data: Data,
    split: Split = None,
    set_: SetModel = None,
    metrics: Annotated[list[str] | None, typer.Option(help="by name, such as mAP@200; repeatable; the recipe's own unless given")] = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="also write it all as JSON, class by class too")] = None,
    worst: Annotated[Path | None, typer.Option(help="also draw the queries that found least")] = None,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Evaluate a model, or a recipe as it is: each metric with its definition, its interval over classes and queries, and the queries left out."""
    from sbirlib.evaluation import evaluation, worst_queries
    from sbirlib.files import atomic_write
    from sbirlib.visual.layout import save_picture

    dataset = open_dataset(data, split, skip_bad, max_pixels)
    pipeline = open_model(model, settings(set_))
    typer.echo(dataset.describe())
    result = evaluation(pipeline, dataset, metrics=metrics, device=device)
    heads = ("evaluator", "metric", "value", "95 % interval", "left out", "definition")
    table(heads, [line.cells() for line in result.lines])
    if out is not None:
        about = {"checkpoint": model, "data": dataset.name, "split": dataset.split_name, "digest": dataset.split_digest}
        with atomic_write(out) as partial:
            partial.write_text(json.dumps({**about, **result.tables()}, indent=1) + "\n", encoding="utf-8")
    if worst is not None:
        save_picture(worst_queries(result, dataset), worst)
        typer.echo(f"the queries that found least: {worst}")
