"""The papers' figures, of runs made here.

python benchmarks/figures.py curves mathm-synthetic                    # MATHM, figure 4: g, w and losses, from the stored runs' logs
python benchmarks/figures.py curves vtd-synthetic --rows "VTD, gates as printed" --panels loss=triplet gate=gate_rms,gate_mean_rms     # of others
python benchmarks/figures.py map baseline=A.safetensors mathm=B.safetensors     # MATHM, figure 6: where sketches and photos lie
python benchmarks/figures.py synthesised "epoch 1=A.safetensors" "epoch 10=B.safetensors"     # ACNet, figure 7: what G makes of sketches
python benchmarks/figures.py distances acnet=A.safetensors cyclegan=B.safetensors     # ACNet, figure 3: pixel distances with and without synthesis
python benchmarks/figures.py landmarks landmarks=A.safetensors         # Zhang et al. 2019, figure 5: points and their offsets; `filters`: figure 6
python benchmarks/figures.py traits vtd=A.safetensors                  # Pang et al. 2019, figure 1: rows of the dictionary, and how categories spread
python benchmarks/figures.py attention vtd=A.safetensors                # Pang et al. 2019, figure 3: what two descriptors look at
python benchmarks/figures.py drawings generative=runs/generative/checkpoint.safetensors       # Pang et al. 2017, figure 3: what the decoder draws

Models are NAME=FILE; --data and --split as for `sbirlib eval`, the synthetic set unless given, or --data-of EXPERIMENT.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import experiment as experiments
import store
from acnet_pictures import histogram, sketch_photo_distances, synthesised
from attention_pictures import attention
from generative_pictures import drawings
from landmark_pictures import filters, landmarks
from sbirlib import InputError, load
from sbirlib.data.dataset import Dataset
from sbirlib.data.named import dataset
from sbirlib.pipeline import Pipeline
from sbirlib.visual.curves import training_curves
from sbirlib.visual.figures import save_figure
from sbirlib.visual.layout import save_picture
from sbirlib.visual.tsne import embedding_map
from trait_pictures import spread, traits

IMAGES = Path(__file__).parent.parent / "docs" / "images"
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    curves = commands.add_parser("curves")
    curves.add_argument("experiment")
    curves.add_argument("--rows", nargs="*", default=ROWS)
    curves.add_argument("--seed", type=int, default=0)
    curves.add_argument(
        "--panels", nargs="*", metavar="TITLE=QUANTITY,QUANTITY", help="what was logged; MATHM's g, w and losses unless given"
    )
    of_models = [commands.add_parser(name) for name in ("map", "distances", "synthesised", *PICTURES)]
    for each in of_models:
        each.add_argument("models", nargs="+", help="NAME=FILE")
        each.add_argument("--data", default="synthetic")
        each.add_argument("--split")
        each.add_argument("--data-of", metavar="EXPERIMENT", help="its data and split, with its options")
    for each in (curves, *of_models):
        each.add_argument("--out", type=Path, help="a PNG; under docs/images unless given")
    given = parser.parse_args()
    if given.command == "curves":
        out = given.out or IMAGES / f"{given.experiment}-curves.png"
        runs = {
            r["row"]: r["log"]
            for r in store.read(given.experiment)
            if r["seed"] == given.seed and r["row"] in given.rows and "error" not in r
        }
        if not runs:
            raise InputError(f"{given.experiment} has no finished run of {', '.join(given.rows)} with seed {given.seed}: run it first")
        records = {row: [r for r in log if "losses" in r] for row, log in runs.items()}
        panels = dict(_panel(each) for each in given.panels) if given.panels else PANELS
        save_figure(training_curves(records, panels), out)
    else:
        out = given.out or IMAGES / f"{given.command}.png"
        data = experiments.data(experiments.read(given.data_of)) if given.data_of else dataset(given.data, given.split)
        models = {name: load(path) for name, path in (pair.partition("=")[::2] for pair in given.models)}
        first = next(iter(models.values()))
        if given.command == "map":
            encoded = {name: model.encode(data) for name, model in models.items()}
            save_figure(embedding_map(encoded, data.test.categories), out)
        elif given.command == "synthesised":
            save_picture(synthesised(models, data), out)
        elif given.command == "distances":
            save_figure(histogram(sketch_photo_distances(models, data)), out)
        else:
            if len(models) > 1:
                raise InputError(
                    f"{given.command} draws one model, got {', '.join(models)}: call it once for each, with an --out of its own"
                )
            save_picture(PICTURES[given.command](first, data), out)
        if given.command == "traits":
            for role, (mean, deviation) in spread(first, data).items():
                print(f"rows that the sketches of a category take, {role}: {mean:.1f} +- {deviation:.1f}")
    print(out)


def _panel(given: str) -> tuple[str, list[str]]:
    title, _, quantities = given.partition("=")
    if not quantities:
        raise InputError(f"--panels takes TITLE=QUANTITY,QUANTITY, got {given!r}")
    return title, quantities.split(",")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"figures: {error}") from None
