"""The figures of MATHM's analysis (Huang et al. 2022): what the triplets' gradients and weights do in training, and where sketches and photos lie.

python benchmarks/figures.py curves mathm-synthetic                    # figure 4, from the logs of the stored runs
python benchmarks/figures.py map baseline=A.safetensors mathm=B.safetensors --data synthetic     # figure 6, of saved models
"""

from __future__ import annotations

import argparse
from pathlib import Path

import store
from sbirlib import InputError, load
from sbirlib.data.named import dataset
from sbirlib.visual.curves import training_curves
from sbirlib.visual.figures import save_figure
from sbirlib.visual.tsne import embedding_map

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ROWS = ("CE + all three", "MATHM (all three, weighted)")
KINDS = ("cross", "within", "hybrid")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    curves = commands.add_parser("curves")
    curves.add_argument("experiment")
    curves.add_argument("--rows", nargs="*", default=ROWS)
    curves.add_argument("--seed", type=int, default=0)
    plane = commands.add_parser("map")
    plane.add_argument("models", nargs="+", help="NAME=FILE")
    plane.add_argument("--data", default="synthetic")
    plane.add_argument("--split")
    for each in (curves, plane):
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
        panels = {
            "active share g": [f"g_{kind}" for kind in KINDS],
            "weight w": [f"w_{kind}" for kind in KINDS],
            "loss": ["cross_entropy", *(f"balanced_triplet.{kind}" for kind in KINDS)],
        }
        save_figure(training_curves(records, panels), out)
    else:
        out = given.out or IMAGES / "map.png"
        data = dataset(given.data, given.split)
        models = dict(pair.partition("=")[::2] for pair in given.models)
        encoded = {name: load(path).encode(data) for name, path in models.items()}
        save_figure(embedding_map(encoded, data.test.categories), out)
    print(out)


if __name__ == "__main__":
    main()
