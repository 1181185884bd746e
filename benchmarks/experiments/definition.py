"""Definition of an experiment in TOML: data, settings shared by all rows, the rows, and the claims of its paper."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from sbirlib import recipe_file
from sbirlib.data.dataset import Dataset
from sbirlib.data.named import dataset
from sbirlib.data.split import SEEN
from sbirlib.errors import InputError, nearest

DEFINITIONS = Path(__file__).parent / "definitions"


@dataclass(frozen=True)
class Row:
    """A recipe with its settings: one line of the results table.

    train: `false` evaluates the encoder untrained.
    warm_start: initial weights of a module, {module path: row of the source model}. The row is "ROW" or "EXPERIMENT/ROW", the seed is the
        same, and the source model is kept. A path "mine:theirs" names two different module paths.
    pretrained: share of the pretrained weights mixed into a module before evaluation (`Pipeline.interpolate`), by module path.
    data: options of the synthetic set in place of the experiment's, such as a world's `solution`: the queries are the same ones, drawn otherwise.
    intervention: change of the method by benchmarks.experiments.interventions: a planted fault, or an answer that shows how much there is to gain.
    variants: settings for further evaluations of the trained weights, by name; each adds a column.
    ensemble: rows whose trained models are weighted on validation sketches and evaluated as one. Such a row trains nothing, and its recipe
        is that of one of its members.
    folds: folds on which the row is run; all where none is named.
    paper: published figures, by their conditions.
    """

    name: str
    recipe: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    train: bool = True
    warm_start: dict[str, str] = field(default_factory=dict)
    pretrained: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    intervention: str = ""
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    ensemble: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    paper: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """Claim of a paper, with the table or figure that makes it, as a comparison of two rows: `better` beats `worse`.

    oracle: row whose gain over `worse` shows how much there is to gain.
    """

    says: str
    where: str
    better: str
    worse: str
    oracle: str = ""


@dataclass(frozen=True)
class Experiment:
    """Rows trained on the same batches of one dataset and evaluated on the same queries.

    paper: method page whose claims these are, such as "mathm"; they stand in docs/claims.md.
    world: the switch of the synthetic set whose world this is; empty for real data.
    matters: least effect, of the first metric, that matters on this data, one for all its experiments. 0: in a world a third of the oracle's gain,
        else every effect.
    gpu: a published dataset at the papers' size, for a GPU; of the preset `paper` alone.
    closed: reason why no more runs are made, where recipes or weights of the stored runs are gone.
    against: the row that all others are compared with.
    rows_of: another experiment, whose rows and claims are used on this data.
    only: those of its rows that are used, with the claims between them; all where none is named.
    factorial: the rows are the runs of benchmarks.experiments.factorial, and the table is of effects.
    folds: number N of folds of the classes (or instances, as the split is); run s has fold s % N unseen. 0 for none: every run has the same split.
    probe: module of benchmarks.experiments.probes that measures the rows in place of training.
    inner: settings of the innermost encoder of each recipe.
    evaluator: its first metric is the one that rows are compared by.
    also: further evaluators, by name; each adds columns.
    evaluate_on: the split to evaluate, "test", or "validation" where rows are settings to select from.
    code_bits: length of the binary codes (ITQ, fitted on the training photos) that are evaluated too; 0 for none.
    """

    name: str
    title: str
    data: str
    against: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    paper: str = ""
    world: str = ""
    matters: float = 0.0
    gpu: bool = False
    closed: str = ""
    rows_of: str = ""
    only: tuple[str, ...] = ()
    factorial: bool = False
    split: str | None = None
    folds: int = 0
    probe: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    seeds: int = 3
    settings: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, Any] = field(default_factory=dict)
    evaluator: dict[str, Any] = field(default_factory=lambda: {"name": "category", "metrics": ["mAP@all", "Prec@100"]})
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluate_on: str = "test"
    code_bits: int = 0
    note: str = ""

    @property
    def final(self) -> bool:
        """Whether rows are compared on the test split, and not for settings to be selected, as on parts of what is seen in training."""
        return self.evaluate_on == "test" and SEEN not in (self.split or "")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that the evaluator computes for each query."""
        return metrics_of(self.evaluator)


def metrics_of(evaluator: dict[str, Any]) -> tuple[str, ...]:
    """Names of the metrics of an evaluator's table."""
    return tuple(evaluator.get("metrics", ("accuracy",)))


def names() -> list[str]:
    """Names of all experiments, sorted; those of the library's own compositions first."""
    return sorted((path.stem for path in DEFINITIONS.glob("*.toml")), key=lambda name: (not name.startswith("sbirlib"), name))


def read(name: str) -> Experiment:
    """Read an experiment by name; InputError, with the nearest name, for an unknown experiment, key or row."""
    path = DEFINITIONS / f"{name}.toml"
    if not path.is_file():
        raise InputError(f"there is no experiment {name!r}{nearest(name, names())}")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = tuple(_instance(Row, row, f"{name}: row") for row in table.pop("rows", []))
    claims = tuple(_instance(Claim, claim, f"{name}: claim") for claim in table.pop("claims", []))
    if "only" in table and "rows_of" not in table:
        raise InputError(f"{name}: only goes with rows_of, the experiment whose rows it names")
    if "rows_of" in table:
        others, theirs = _taken(read(table["rows_of"]), table.get("only"), name)
        rows, claims = rows + others, claims + theirs
    if table.get("factorial"):
        rows += import_module("benchmarks.experiments.factorial").rows()
    experiment: Experiment = _instance(Experiment, {"name": name, "rows": rows, "claims": claims, **table}, name)
    if experiment.evaluate_on not in ("test", "validation"):
        raise InputError(f"{name}: evaluate_on is 'test' or 'validation', got {experiment.evaluate_on!r}")
    row_names = [row.name for row in rows]
    for row in (experiment.against, *(row for claim in claims for row in (claim.better, claim.worse))):
        if row not in row_names:
            raise InputError(f"{name}: there is no row {row!r}{nearest(row, row_names)}")
    for row in rows:
        for source in (*row.warm_start.values(), *row.ensemble):
            if "/" not in source and source not in row_names:
                raise InputError(f"{name}: row {row.name!r} starts from {source!r}, which is no row here: add it, or name EXPERIMENT/ROW")
    if len(set(row_names)) < len(row_names):
        raise InputError(f"{name}: two rows have one name")
    return experiment


def _taken(source: Experiment, only: list[str] | None, name: str) -> tuple[tuple[Row, ...], tuple[Claim, ...]]:
    """The rows of another experiment, or those named in `only`, and the claims between them."""
    rows = {row.name: row for row in source.rows}
    if only is not None and (not isinstance(only, list) or not all(isinstance(row, str) for row in only)):
        raise InputError(f"{name}: only = {only!r}: expected a list of names of rows")
    for row in only or ():
        if row not in rows:
            raise InputError(f"{name}: only: {source.name} has no row {row!r}{nearest(row, rows)}")
    selection = rows.keys() if only is None else only
    claims = tuple(claim for claim in source.claims if {claim.better, claim.worse, claim.oracle or claim.worse} <= set(selection))
    return tuple(row for row in source.rows if row.name in selection), claims


def source_models() -> set[str]:
    """Rows, as EXPERIMENT/ROW, whose trained models other rows start from or ensemble."""
    return {
        model_name(experiment, source)
        for experiment in map(read, names())
        for row in experiment.rows
        for source in (*row.warm_start.values(), *row.ensemble)
    }


def model_name(experiment: Experiment, row: str) -> str:
    """EXPERIMENT/ROW of a row that a definition refers to."""
    return row if "/" in row else f"{experiment.name}/{row}"


def settings(experiment: Experiment, row: Row, variant: str | None = None) -> dict[str, Any]:
    """Settings of a row's recipe; later ones win: the experiment's, those of the innermost encoder, the row's, the variant's."""
    table, path = recipe_file.read(row.recipe)["encoder"], "encoder"
    while isinstance(table.get("encoder"), dict):
        table, path = table["encoder"], f"{path}.encoder"
    merged: dict[str, Any] = expand(
        experiment.settings
        | {f"{path}.{option}": value for option, value in experiment.inner.items()}
        | row.settings
        | (row.variants[variant] if variant else {})
    )
    return merged


def data(experiment: Experiment, seed: int = 0, row: Row | None = None) -> Dataset:
    """The dataset of an experiment, or of one of its rows, split as the run of this seed has it; validation classes train too where the test split
    is evaluated.
    """
    split = experiment.split
    if experiment.folds:
        split = f"{split}+" * bool(split) + f"fold:{seed % experiment.folds}:of={experiment.folds}"
        split += "+validation" * (experiment.evaluate_on == "test")
    return dataset(expand(experiment.data), expand(split), **experiment.options | (row.data if row else {}))


def expand(value: Any) -> Any:
    """Replace `$SBIRLIB_DATA` in strings by the folder that the environment variable names; InputError where it is not set."""
    if isinstance(value, dict):
        return {k: expand(v) for k, v in value.items()}
    if not isinstance(value, str) or "$SBIRLIB_DATA" not in value:
        return value
    if "SBIRLIB_DATA" not in os.environ:
        raise InputError("this experiment reads real data: set SBIRLIB_DATA to its folder")
    return value.replace("$SBIRLIB_DATA", os.environ["SBIRLIB_DATA"])


def portable(value: Any) -> Any:
    """The inverse of `expand`, so that a committed result names no folder of the machine that made it."""
    if isinstance(value, dict):
        return {k: portable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [portable(v) for v in value]
    root = os.environ.get("SBIRLIB_DATA")
    return value.replace(root, "$SBIRLIB_DATA") if root and isinstance(value, str) else value


def _instance(kind: Any, table: dict[str, Any], place: str) -> Any:
    keys = [f.name for f in fields(kind)]
    for key in table:
        if key not in keys:
            raise InputError(f"{place} has no key {key!r}{nearest(key, keys)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
