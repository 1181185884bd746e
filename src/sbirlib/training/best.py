"""Best weights of a training, by its validation, and the moment to stop."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from sbirlib.errors import InputError, nearest
from sbirlib.phase import Validation
from sbirlib.retrieval.exact.per_query import CLASS
from sbirlib.training import checkpoint
from sbirlib.training.description import Chosen, Training
from sbirlib.training.model import Model

logger = logging.getLogger(__name__)


@dataclass
class Best:
    """The largest value of the recipe's validation metric so far, its step, and the model's tensors there, of any shape by name."""

    settings: Validation
    chosen: Chosen | None = None
    since: int = 0  # validations without a larger value
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        """Whether the recipe's patience has ended."""
        return self.settings.patience is not None and self.since >= self.settings.patience

    def take(self, metrics: Mapping[str, float], step: int, model: Model) -> bool:
        """Note the metrics of a validation; return whether they are the best so far. A value that is not finite never is."""
        name = metric_name(self.settings, metrics)
        value = metrics[name]
        if not math.isfinite(value) or (self.chosen is not None and value <= self.chosen.value):
            self.since += 1
            return False
        self.chosen, self.since, self.tensors = Chosen(step=step, metric=name, value=value), 0, model.tensors()
        return True

    def restore(self, path: Path, training: Training, model: Model, step: int) -> None:
        """Go on from a checkpoint's record, with the best weights from `path`, or from the model where this very step is the best."""
        self.chosen, self.since = training.chosen, training.since
        if self.chosen is None:
            return
        if path.is_file():
            tensors, theirs = checkpoint.read_model(path)
            if theirs.chosen is not None and theirs.chosen.step == self.chosen.step:
                self.tensors = checkpoint.of_model(tensors)
                return
        if self.chosen.step != step:
            raise InputError(
                f"the checkpoint names step {self.chosen.step} as the best, and {path} does not hold it: put the file back, or start anew"
            )
        self.tensors = model.tensors()

    def load(self, model: Model) -> None:
        """Set the model to its best weights."""
        if self.chosen is not None:
            model.load_state_dict(self.tensors)
            logger.info("the model is that of step %d: %s %.4f on validation", self.chosen.step, self.chosen.metric, self.chosen.value)


def metric_name(settings: Validation, metrics: Mapping[str, float]) -> str:
    """Name of the metric that decides, among those that the evaluators give. Raises InputError where there is none of that name."""
    plain = [name for name in metrics if not name.startswith(CLASS) and not name.endswith("_left_out")]
    metric = settings.metric or plain[0]
    name = metric if settings.average == "query" or metric.startswith(CLASS) else f"{CLASS}{metric}"
    if name not in metrics:
        raise InputError(f"validate.metric: the recipe's evaluators give no {name!r}{nearest(name, metrics)}")
    return name
