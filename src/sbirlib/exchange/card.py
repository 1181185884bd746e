"""Card of a model on the Hub: its README.md, written from the description in the model's file."""

from __future__ import annotations

import json
from collections.abc import Sequence

from huggingface_hub import ModelCardData
from pydantic import BaseModel, ConfigDict, TypeAdapter

from sbirlib.documents import read_json, read_text
from sbirlib.errors import printable
from sbirlib.hub import MODEL, PREFIX
from sbirlib.plugins import used_by
from sbirlib.recipe import Recipe
from sbirlib.training.description import Description

LIBRARY = "sbirlib"
TASK = "image-feature-extraction"  # the Hub's nearest
EXPECTED = "the file that `sbirlib eval MODEL --data DATA --out FILE.json` writes"


class Metric(BaseModel):
    """One line of an evaluation."""

    model_config = ConfigDict(strict=True, frozen=True)

    metric: str
    value: float
    definition: str = ""
    interval: tuple[float, float] | None = None
    left_out: int = 0


class EvaluationRecord(BaseModel):
    """The parts of an evaluation's JSON that a card holds: the data, its split with digest, and the metrics."""

    model_config = ConfigDict(strict=True, frozen=True)

    data: str
    split: str
    digest: str
    lines: list[Metric]


SCHEMA = TypeAdapter(EvaluationRecord)


def read_evaluation(path: str) -> EvaluationRecord:
    """The evaluation in a JSON file, as `sbirlib eval --out` writes it; InputError for any other."""
    return read_json(read_text(path, expected=EXPECTED), SCHEMA, f"{path} (expected {EXPECTED})")


def model_card(
    recipe: Recipe,
    about: Description,
    *,
    encoder: str,
    repository: str | None = None,
    licence: str | None = None,
    evaluation: EvaluationRecord | None = None,
) -> str:
    """The card of a model of a recipe: how to load it, its record, its metrics and the recipe; `encoder` is the encoder's SHA-256."""
    tags = ["sketch-based-image-retrieval", "image-retrieval", "sketch", recipe.name]
    head = ModelCardData(license=licence, library_name=LIBRARY, pipeline_tag=TASK, tags=tags)
    parts = [
        f"---\n{head.to_yaml()}\n---",
        f"# {_plain(repository or recipe.name)}",
        f"A model for sketch-based image retrieval, by the recipe `{_plain(recipe.name)}` of sbirlib. A sketch is encoded as a query, photos as a "
        "gallery, and photos are ranked by inner products.",
        _use(recipe, repository),
        "## Record",
        _table(("", ""), _record(recipe, about, encoder)),
        *([] if evaluation is None else _metrics(evaluation)),
        "## Recipe",
        f"```json\n{json.dumps(recipe.tables(), indent=1)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _use(recipe: Recipe, repository: str | None) -> str:
    model = MODEL if repository is None else f"{PREFIX}{repository}"
    packages = " ".join(f'"{name}=={version}"' for name, version in (d.rsplit(" ", 1) for d in used_by(recipe)))
    return (
        f"## Use\n\n```sh\npip install {packages}\nsbirlib index {model} PHOTOS --out INDEX\nsbirlib search SKETCH.png --index INDEX\n```\n\n"
        f'```python\nfrom sbirlib import load\n\nindex = load("{model}").index("PHOTOS")\nindex.search("SKETCH.png", k=10)\n```\n\n'
        f"`{MODEL}` holds tensors and JSON alone, and its own digest, which is checked when it is loaded; nothing is unpickled."
    )


def _record(recipe: Recipe, about: Description, encoder: str) -> list[tuple[str, str]]:
    """The facts of the model, each with its name."""
    rows = [
        ("recipe", recipe.name),
        ("SHA-256 of the recipe", recipe.digest),
        ("SHA-256 of the encoder", encoder),
        ("seed", str(recipe.seed)),
    ]
    if about.data is None:
        rows.append(("training data", "not recorded in the model's file"))
    else:
        rows += [("training data", about.data.name), ("split", about.data.split), ("SHA-256 of data and split", about.data.digest)]
    if about.categories:
        rows.append(("training categories", str(len(about.categories))))
    if about.chosen is not None:
        rows.append(("weights", f"of step {about.chosen.step}, by validation: {about.chosen.metric} {about.chosen.value:.4f}"))
    return rows


def _metrics(evaluation: EvaluationRecord) -> list[str]:
    rows = [
        (
            line.metric,
            f"{line.value:.4f}",
            "" if line.interval is None else "{:.4f} to {:.4f}".format(*line.interval),
            str(line.left_out),
            line.definition,
        )
        for line in evaluation.lines
    ]
    place = f"On `{_plain(evaluation.data)}`, split `{_plain(evaluation.split)}` (SHA-256 `{_plain(evaluation.digest)}`)"
    data = f"{place}, with sketches as queries and photos as gallery:"
    return ["## Evaluation", data, _table(("metric", "value", "95 % interval", "queries left out", "definition"), rows)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """A text that ends neither a line nor a cell, nor a span of code."""
    return printable(text).replace("|", "\\|").replace("`", "'")
