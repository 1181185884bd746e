"""The figures of the papers, of models and runs of sbirlib.

python -m benchmarks.figures.draw curves mathm-synthetic             # MATHM, figure 4: g, w and losses, from the logs of stored runs
python -m benchmarks.figures.draw curves vtd-synthetic --rows "VTD, gates as printed" --panels loss=triplet gate=gate_rms,gate_mean_rms
python -m benchmarks.figures.draw map baseline=A.safetensors mathm=B.safetensors     # MATHM, figure 6: map of sketches and photos
python -m benchmarks.figures.draw synthesised "epoch 1=A.safetensors" "epoch 10=B.safetensors"     # ACNet, figure 7: synthesised photos
python -m benchmarks.figures.draw distances acnet=A.safetensors cyclegan=B.safetensors     # ACNet, figure 3: pixel distances
python -m benchmarks.figures.draw landmarks landmarks=A.safetensors  # Zhang et al. 2019, figure 5: points and their offsets
python -m benchmarks.figures.draw filters landmarks=A.safetensors    # Zhang et al. 2019, figure 6: responses of filters
python -m benchmarks.figures.draw traits vtd=A.safetensors           # Pang et al. 2019, figure 1: dictionary rows, spread of categories
python -m benchmarks.figures.draw attention vtd=A.safetensors        # Pang et al. 2019, figure 3: Grad-CAM under two descriptors
python -m benchmarks.figures.draw drawings generative=runs/generative/checkpoint.safetensors     # Pang et al. 2017, figure 3: decoded sketches

Models are NAME=FILE; --data and --split as for `sbirlib eval`, by default the synthetic set, or --data-of EXPERIMENT.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks.experiments import definition, store
from benchmarks.figures.acnet import histogram, sketch_photo_distances, synthesised
from benchmarks.figures.attention import attention
from benchmarks.figures.generative import drawings
from benchmarks.figures.landmarks import filters, landmarks
from benchmarks.figures.traits import spread, traits
from sbirlib import InputError, load
from sbirlib.data.dataset import Dataset
from sbirlib.data.named import dataset
from sbirlib.pipeline import Pipeline
from sbirlib.visual.curves import training_curves
from sbirlib.visual.figures import save_figure
from sbirlib.visual.layout import save_picture
from sbirlib.visual.tsne import embedding_map

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
ROWS = ("CE + all three", "MATHM (all three, weighted)")
KINDS = ("cross", "within", "hybrid")
PANELS = {
    "active share g": [f"g_{kind}" for kind in KINDS],
    "weight w": [f"w_{kind}" for kind in KINDS],
    "loss": ["cross_entropy", *(f"balanced_triplet.{kind}" for kind in KINDS)],
}
PICTURES: dict[str, Callable[[Pipeline, Dataset], Image.Image]] = {
    "drawings": drawings,
    "landmarks": landmarks,
    "filters": filters,
    "traits": traits,
    "attention": attention,
}


def main() -> None:
    options = parse_options()
    print(draw_curves(options) if options.command == "curves" else draw_models(options))


def draw_curves(options: argparse.Namespace) -> Path:
    """Draw training curves of stored runs; InputError where none of the rows has a finished run."""
    out: Path = options.out or IMAGES / f"{options.experiment}-curves.png"
    logs = {
        run["row"]: [record for record in run["log"] if "losses" in record]
        for run in store.read(options.experiment)
        if run["seed"] == options.seed and run["row"] in options.rows and "error" not in run
    }
    if not logs:
        raise InputError(f"{options.experiment} has no finished run of {', '.join(options.rows)} with seed {options.seed}: run it first")
    save_figure(training_curves(logs, dict(map(parse_panel, options.panels)) if options.panels else PANELS), out)
    return out


def draw_models(options: argparse.Namespace) -> Path:
    """Draw a figure of trained models; InputError where several are given to a figure of one."""
    command, out = options.command, options.out or IMAGES / f"{options.command}.png"
    data = definition.data(definition.read(options.data_of)) if options.data_of else dataset(options.data, options.split)
    models = {name: load(path) for name, path in (pair.partition("=")[::2] for pair in options.models)}
    if command == "map":
        save_figure(embedding_map({name: model.encode(data) for name, model in models.items()}, data.test.categories), out)
    elif command == "synthesised":
        save_picture(synthesised(models, data), out)
    elif command == "distances":
        save_figure(histogram(sketch_photo_distances(models, data)), out)
    elif len(models) > 1:
        raise InputError(f"{command} draws one model, got {', '.join(models)}: call it once for each, with an --out of its own")
    else:
        model = next(iter(models.values()))
        save_picture(PICTURES[command](model, data), out)
        if command == "traits":
            for split, (mean, deviation) in spread(model, data).items():
                print(f"rows of a category's sketches, {split}: {mean:.1f} +- {deviation:.1f}")
    return Path(out)


def parse_panel(text: str) -> tuple[str, list[str]]:
    """Title and quantities of TITLE=QUANTITY,QUANTITY."""
    title, _, quantities = text.partition("=")
    if not quantities:
        raise InputError(f"--panels takes TITLE=QUANTITY,QUANTITY, got {text!r}")
    return title, quantities.split(",")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    curves = commands.add_parser("curves")
    curves.add_argument("experiment")
    curves.add_argument("--rows", nargs="*", default=ROWS)
    curves.add_argument("--seed", type=int, default=0)
    curves.add_argument(
        "--panels", nargs="*", metavar="TITLE=QUANTITY,QUANTITY", help="quantities of the log; default: MATHM's g, w and losses"
    )
    of_models = [commands.add_parser(name) for name in ("map", "distances", "synthesised", *PICTURES)]
    for each in of_models:
        each.add_argument("models", nargs="+", help="NAME=FILE")
        each.add_argument("--data", default="synthetic")
        each.add_argument("--split")
        each.add_argument("--data-of", metavar="EXPERIMENT", help="its data and split, with its options")
    for each in (curves, *of_models):
        each.add_argument("--out", type=Path, help="a PNG; default: under docs/images")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"draw: {error}") from None
