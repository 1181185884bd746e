"""An experiment as a TOML file: the data, what every row has in common, and the rows."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sbirlib import recipe as recipes
from sbirlib.data.dataset import Dataset
from sbirlib.data.named import dataset
from sbirlib.errors import InputError, nearest

EXPERIMENTS = Path(__file__).parent / "experiments"


@dataclass(frozen=True)
class Row:
    """One line of the table. `train = false` measures the encoder as it comes; `paper` holds the published figures by their condition.

    `begin` gives a part, by its place (or two places, mine:theirs), the weights that it has in the trained model of another row, of the same
    seed: "ROW", or "EXPERIMENT/ROW"; such models are kept. `pretrained` is the share of the pretrained weights that a part is given back before
    it is measured (`Pipeline.interpolate`). `asked` holds, by name, settings under which the trained network is measured once more, each a
    column: another way to ask it. `ensemble` names rows whose trained models are weighed on validation sketches and measured together: such a
    row trains nothing of its own, and its recipe is one of theirs.
    """

    name: str
    recipe: str
    settings: dict[str, Any] = field(default_factory=dict)
    train: bool = True
    begin: dict[str, str] = field(default_factory=dict)
    pretrained: dict[str, float] = field(default_factory=dict)
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    ensemble: tuple[str, ...] = ()
    paper: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """What a paper says, where it says it, and as two rows: the first is better than the second."""

    says: str
    where: str
    better: str
    worse: str


@dataclass(frozen=True)
class Experiment:
    """Rows that are trained alike on one dataset and measured on the same queries; `against` is the row the others are compared with.

    `evaluator` is what is asked and by which metrics, the first of them the one that rows are compared by; those in `also`, by what makes
    them other, add columns. `part` is what is measured: "test", or "validation" where rows are settings to choose from. `inner` are settings
    of the innermost encoder of each recipe, whatever stands around it. `rows_of` names the experiment whose rows and claims these are, on
    other data. `code_bits` also measures codes of so many bits (ITQ, fitted on the training photos); 0: none.
    """

    name: str
    title: str
    data: str
    against: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    rows_of: str = ""
    split: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seeds: int = 3
    settings: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, Any] = field(default_factory=dict)
    evaluator: dict[str, Any] = field(default_factory=lambda: {"name": "category", "metrics": ["mAP@all", "Prec@100"]})
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    part: str = "test"
    code_bits: int = 0
    note: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the evaluator measures query by query."""
        return measured_by(self.evaluator)


def measured_by(evaluator: dict[str, Any]) -> tuple[str, ...]:
    return tuple(evaluator.get("metrics", ("accuracy",)))


def names() -> list[str]:
    return sorted(path.stem for path in EXPERIMENTS.glob("*.toml"))


def read(name: str) -> Experiment:
    """An experiment by name; raises InputError for one that is not there, and for unknown keys, with the nearest."""
    path = EXPERIMENTS / f"{name}.toml"
    if not path.is_file():
        raise InputError(f"there is no experiment {name!r}{nearest(name, names())}")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = tuple(_made(Row, row, f"{name}: row") for row in table.pop("rows", []))
    claims = tuple(_made(Claim, claim, f"{name}: claim") for claim in table.pop("claims", []))
    if "rows_of" in table:
        others = read(table["rows_of"])
        rows, claims = rows + others.rows, claims + others.claims
    made: Experiment = _made(Experiment, {"name": name, "rows": rows, "claims": claims, **table}, name)
    if made.part not in ("test", "validation"):
        raise InputError(f"{name}: part is 'test' or 'validation', got {made.part!r}")
    known = [row.name for row in rows]
    for row in (made.against, *(row for claim in claims for row in (claim.better, claim.worse))):
        if row not in known:
            raise InputError(f"{name}: there is no row {row!r}{nearest(row, known)}")
    return made


def begun() -> set[str]:
    """The rows whose trained models others begin with or weigh, as EXPERIMENT/ROW."""
    return {model(found, row) for found in map(read, names()) for each in found.rows for row in (*each.begin.values(), *each.ensemble)}


def model(found: Experiment, row: str) -> str:
    """A row that is named from within an experiment, as EXPERIMENT/ROW."""
    return row if "/" in row else f"{found.name}/{row}"


def settings(found: Experiment, row: Row, asked: str | None = None) -> dict[str, Any]:
    """What is set in a row's recipe: the experiment's, those of its innermost encoder, the row's own, and those of one way to ask it."""
    table, path = recipes.read(row.recipe)["encoder"], "encoder"
    while isinstance(table.get("encoder"), dict):
        table, path = table["encoder"], f"{path}.encoder"
    made: dict[str, Any] = expanded(
        found.settings
        | {f"{path}.{option}": value for option, value in found.inner.items()}
        | row.settings
        | (row.asked[asked] if asked else {})
    )
    return made


def data(found: Experiment) -> Dataset:
    """What the rows of an experiment are trained and measured on."""
    return dataset(expanded(found.data), expanded(found.split), **found.options)


def expanded(value: Any) -> Any:
    """`$SBIRLIB_DATA` in a text replaced by the folder that it names, which must be set."""
    if isinstance(value, dict):
        return {k: expanded(v) for k, v in value.items()}
    if not isinstance(value, str) or "$SBIRLIB_DATA" not in value:
        return value
    if "SBIRLIB_DATA" not in os.environ:
        raise InputError("this experiment reads real data: set SBIRLIB_DATA to its folder")
    return value.replace("$SBIRLIB_DATA", os.environ["SBIRLIB_DATA"])


def portable(value: Any) -> Any:
    """The reverse of `expanded`: a result that is committed names no folder of the machine that made it."""
    if isinstance(value, dict):
        return {k: portable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [portable(v) for v in value]
    root = os.environ.get("SBIRLIB_DATA")
    return value.replace(root, "$SBIRLIB_DATA") if root and isinstance(value, str) else value


def _made(kind: Any, table: dict[str, Any], where: str) -> Any:
    known = [f.name for f in fields(kind)]
    for key in table:
        if key not in known:
            raise InputError(f"{where} has no key {key!r}{nearest(key, known)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
