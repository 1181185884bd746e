"""Kinds of data and of evaluation by the command line: two processes give the results of one, and one prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import figure
from tests.processes.launch import run
from tests.processes.recipes import few_of

from sbirlib import recipe_file
from sbirlib.recipe import Recipe
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject

KINDS = {"vtd": "seed:0", "hard-transfer": "seed:0", "generative": "seed:0", "landmarks": "classification"}  # recipes with their splits
STEPS = 1


def toml(value: Any) -> str:
    """A value in one line of TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items() if item is not None) + "}"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list | tuple) else json.dumps(value)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six classes with six photos each, two sketches of every photo, and the recipes in small, with their own evaluators."""
    root = tmp_path_factory.mktemp("data")
    for c in range(6):
        for i in range(6):
            for modality, name in (("photo", f"{i}.png"), ("sketch", f"{i}-1.png"), ("sketch", f"{i}-2.png")):
                path = root / "figures" / modality / f"class{c}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                figure(c, i, modality == "sketch").save(path)
    for name in KINDS:
        own = Recipe.of(recipe_file.read(name)).tables()["evaluators"]
        tables = small(Subject("recipe", name, {**few_of(name), "evaluators": own}), steps=STEPS).recipe.tables()
        (root / f"{name}.toml").write_text("".join(f"{key} = {toml(value)}\n" for key, value in tables.items() if value is not None))
    return root


def sbirlib(count: int, *arguments: object) -> list[str]:
    """The lines that a command prints, in so many processes."""
    start = ["--no-python", "sbirlib"] if count > 1 else ["-c", "from sbirlib.cli import main; main()"]
    process = run(count, *start, *map(str, arguments))
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout.splitlines()


def train(data: Path, recipe: str, out: Path, count: int) -> tuple[list[str], list[dict[str, Any]]]:
    """The printed lines, without those that name the folder, and the log of a training."""
    call = ("train", data / f"{recipe}.toml", "--data", data / "figures", "--split", KINDS[recipe], "--out", out)
    lines = sbirlib(count, *call)
    return [line for line in lines if str(out) not in line], [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "recipe", ["vtd", *(pytest.param(recipe, marks=pytest.mark.slow) for recipe in ("hard-transfer", "generative", "landmarks"))]
)
def test_two_processes_train_as_one(data: Path, tmp_path: Path, recipe: str) -> None:
    (one, ours), (two, theirs) = (train(data, recipe, tmp_path / str(count), count) for count in (1, 2))
    assert len(one) == len(two), "one process prints"
    assert one[0] == two[0], "the dataset's description"
    for line, other in zip(ours, theirs, strict=True):
        assert line["step"] == other["step"]
        assert other.get("losses", {}) == pytest.approx(line.get("losses", {}), abs=1e-3)
        assert other.get("validation", {}) == pytest.approx(line.get("validation", {}), abs=0.1)  # ranks of a dozen photos
    metrics = [{line.split()[0]: float(line.split()[-1]) for line in lines if " -> " in line} for lines in (one, two)]
    assert metrics[0].keys() == metrics[1].keys() != set()
    assert metrics[1] == pytest.approx(metrics[0], abs=0.1)


@pytest.mark.slow
def test_two_processes_evaluate_encode_name_and_compare_as_one(data: Path, tmp_path: Path) -> None:
    for recipe in ("landmarks", "vtd", "hard-transfer"):
        train(data, recipe, tmp_path / recipe, 1)
    model, classifier = (tmp_path / recipe / "model.safetensors" for recipe in ("vtd", "landmarks"))
    of_instances, of_classes = (("--data", data / "figures", "--split", KINDS[recipe]) for recipe in ("vtd", "landmarks"))
    commands: dict[str, tuple[object, ...]] = {
        "eval": ("eval", model, *of_instances, "--out", "OUT"),
        "accuracy": ("eval", classifier, *of_classes, "--out", "OUT"),
        "photos": ("encode", model, data / "figures" / "photo", "--rows", 5, "--out", "OUT"),
        "sketches": ("encode", model, data / "figures" / "sketch", "--sketches", "--rows", 50, "--out", "OUT"),
        "classify": ("classify", classifier, data / "figures" / "sketch" / "class0"),
        "compare": ("compare", tmp_path / "vtd", tmp_path / "hard-transfer", *of_instances, "--curves", "OUT"),
    }
    for name, command in commands.items():
        printed = []
        for count in (1, 2):
            out = tmp_path / f"{name}-{count}"
            lines = sbirlib(count, *(out if part == "OUT" else part for part in command))
            printed.append([line for line in lines if str(out) not in line])
        assert printed[0] == printed[1], name
        if name in ("eval", "accuracy", "photos", "sketches"):
            one, two = (contents(tmp_path / f"{name}-{count}") for count in (1, 2))
            assert one == two != {}, name


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of each file of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name.replace(path.name, ""): file.read_bytes() for file in files}
