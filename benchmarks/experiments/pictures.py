"""Pictures of a row's best and worst queries with their photos, for the page of an experimenter's own runs."""

from __future__ import annotations

import base64
import re

from torch import Tensor

from benchmarks.experiments.definition import Experiment, Row
from benchmarks.experiments.folders import FOLDERS
from sbirlib.data.dataset import Dataset
from sbirlib.interfaces import Encoded
from sbirlib.processes import rank
from sbirlib.visual.retrievals import extremes, retrievals_of

EACH = 3  # queries of either kind
QUALITY = 80


def draw(experiment: Experiment, row: Row, data: Dataset, queries: Encoded, gallery: Encoded, values: Tensor) -> None:
    """Draw the queries with the highest and the lowest values [Q], where pages are an experimenter's own."""
    ranks = experiment.evaluator["name"] in ("category", "instance")  # photos, and not classes
    best, worst = extremes(values, EACH)
    if FOLDERS.pictures is None or rank() > 0 or not ranks or not best:
        return
    instances = experiment.evaluator["name"] == "instance"
    picture = retrievals_of(
        list(dict.fromkeys([*best, *worst])), queries, gallery, data.select(experiment.evaluate_on), values=values, instances=instances
    )
    FOLDERS.pictures.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").save(FOLDERS.pictures / name_of(experiment, row), quality=QUALITY)


def embedded(experiment: Experiment, row: Row) -> str:
    """The picture of a row as the address of an image that lies in the page itself; empty where there is none."""
    file = FOLDERS.pictures / name_of(experiment, row) if FOLDERS.pictures else None
    if file is None or not file.is_file():
        return ""
    return f"data:image/webp;base64,{base64.b64encode(file.read_bytes()).decode()}"


def name_of(experiment: Experiment, row: Row) -> str:
    """Name of the file of a row's picture."""
    return re.sub(r"[^\w.-]+", "-", f"{experiment.name}-{row.name}") + ".webp"
