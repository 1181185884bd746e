"""Losses of pytorch-metric-learning by name: "pml:MultiSimilarityLoss"."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Classifier, Features, Loss, Step
from sbirlib.losses.cross_entropy import check_labels

REFUSED = {
    "CrossBatchMemory": "it loses its place in the queue when it is loaded, so training could not be resumed",
    "DynamicSoftMarginLoss": "its histogram is not in its state_dict, so training could not be resumed",
    "InstanceLoss": "it takes a category's number for that of a row, so the order of a batch's rows changes it",
    "ManifoldLoss": "it takes no categories",
    "MultipleLosses": "a recipe names several losses itself, each with its weight",
    "SelfSupervisedLoss": "it needs two views of every image (ref_emb), and takes no categories",
    "SmoothAPLoss": "it takes for granted that rows are sorted by category, and is wrong without a word where they are not",
    "VICRegLoss": "it needs two views of every image (ref_emb), and takes no categories",
}
# Objects cannot stand in a recipe; the regularizers' weights are nothing without them.
OBJECTS = {"distance", "reducer", "embedding_regularizer", "embedding_reg_weight", "weight_regularizer", "weight_reg_weight"}
OBJECTS |= {"weight_init_func", "collect_stats", "mat_based_loss"}
LABELS = ("category", "instance")
OURS = {"embedding_size": "dim", "descriptors_dim": "dim", "num_classes": "categories"}


class EncoderDistance(LpDistance):
    """The encoder's distances [N, N] in the place of PML's; other pairs, such as rows and proxies, as PML measures them."""

    matrix: Tensor | None = None

    def forward(self, query: Tensor, reference: Tensor | None = None) -> Tensor:
        if self.matrix is None or not (reference is None or reference is query):
            measured: Tensor = super().forward(query, reference)
            return measured
        powered: Tensor = self.matrix**self.power
        return powered


class Mean(MeanReducer):
    """PML's mean over rows; zero, with a gradient, where none counts."""

    def element_reduction(self, losses: Tensor, indices: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        mean: Tensor = losses.mean() if len(losses) else self.zero_loss(embeddings)
        return mean


class PmlLoss(Loss):
    """A PML loss over the step's rows, in float32 at least, with its parameters' dtype left alone.

    A loss of Euclidean distances reads the encoder's own [N, N], one of similarities its embedding [N, D]. `triplets=True`
    hands it the miner's triplets of all kinds; `miner` names a PML miner for it alone, pair miners included. Rows are alike if they are
    of one category, or with `labels="instance"` of one instance: a sketch and its photo.
    """

    def __init__(self, loss: Any, *, triplets: bool, miner: str | Mapping[str, Any] | None, labels: str, categories: int | None) -> None:
        super().__init__()
        if labels not in LABELS:
            raise InputError(f"labels are those of {' or '.join(LABELS)}, got {labels!r}{nearest(labels, LABELS)}")
        if labels == "instance" and categories is not None:
            raise InputError(
                f"{type(loss).__name__} has weights for each category: labels='instance' goes with losses of pairs and triplets"
            )
        self.loss, self.categories, self.triplets, self.labels = loss, categories, triplets, labels
        self.miner = None if miner is None else make_miner(miner)
        if triplets and miner is not None:
            raise InputError("a PML loss takes `triplets=True` (the recipe's miner) or a `miner` of PML, not both: leave out one")
        if type(loss.reducer) is MeanReducer:
            loss.reducer = Mean()
        if triplets:
            self.needs = frozenset({"triplets"})
        for part in filter(None, (self.loss, self.miner)):
            if type(part.distance) is LpDistance and part.distance.p == 2:
                part.distance = EncoderDistance(power=part.distance.power)

    def forward(self, step: Step) -> Tensor:
        embedding, labels = at_least_float32(step.features.embedding), getattr(step.features, self.labels)
        if not len(embedding):
            return embedding.sum()  # zero, with a gradient; some of PML's would be NaN
        if self.categories is not None:
            check_labels(labels, self.categories)
        if self.labels == "instance" and bool((labels < 0).any()):
            raise InputError("labels='instance' needs to know which photo each sketch was drawn of, and some images here tell no instance")
        # PML casts parameters to the embedding's dtype, for good: it is given copies that have it already.
        parameters = {name: value.to(embedding.dtype) for name, value in self.loss.named_parameters()}
        measures = [part.distance for part in (self.loss, self.miner) if part is not None and isinstance(part.distance, EncoderDistance)]
        try:
            for measure in measures:
                measure.matrix = at_least_float32(step.distances)
            with torch.autocast(embedding.device.type, enabled=False):
                loss = torch.func.functional_call(self.loss, parameters, (embedding, labels, self.indices(step, embedding)))
        finally:
            for measure in measures:
                measure.matrix = None
        total: Tensor = loss.sum()  # some give [1]
        return total

    def indices(self, step: Step, embedding: Tensor) -> tuple[Tensor, ...] | None:
        """The pairs or triplets that PML is to use; None for its own choice."""
        if self.triplets:
            chosen = list(step.triplets.values())
            return tuple(torch.cat([getattr(t, rows) for t in chosen]) for rows in ("anchor", "positive", "negative"))
        if self.miner is not None:
            mined: tuple[Tensor, ...] = self.miner(embedding.detach(), getattr(step.features, self.labels))
            return mined
        return None


class PmlClassifier(PmlLoss, Classifier):
    """A PML loss with a score for every category."""

    def logits(self, features: Features) -> Tensor:
        """[N, C]"""
        embedding = at_least_float32(features.embedding)
        with torch.autocast(embedding.device.type, enabled=False):
            scores: Tensor = self.loss.get_logits(embedding.to(next(self.loss.parameters()).dtype))
        return -scores if isinstance(self.loss, losses.ProxyNCALoss) else scores  # these are distances


def make_miner(given: str | Mapping[str, Any]) -> Any:
    """A PML miner from its name, or a table of its name and options."""
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    known = [n for n in dir(miners) if n.endswith("Miner") and n != "BaseMiner"]
    if name not in known:
        raise InputError(f"pytorch-metric-learning has no miner {name!r}{nearest(str(name), known)}")
    return getattr(miners, name)(**options)


def options(kind: type) -> dict[str, inspect.Parameter]:
    """A PML class's own options, its parents' included, under our names where the pipeline fills them in."""
    found: dict[str, inspect.Parameter] = {}
    for ancestor in kind.__mro__:
        for name, option in inspect.signature(ancestor.__init__).parameters.items():  # type: ignore[misc]
            named = option.kind in (option.POSITIONAL_OR_KEYWORD, option.KEYWORD_ONLY)
            if named and name not in {"self", *OBJECTS} and name not in {o.name for o in found.values()}:
                ours = OURS.get(name, name) if option.default is option.empty else name
                found[ours] = option
    return found


def adapted() -> list[str]:
    """The names of PML's losses that `adapt` takes."""
    return [n for n in dir(losses) if n.endswith("Loss") and n != "GenericPairLoss" and n not in REFUSED]


def adapt(name: str) -> Callable[..., PmlLoss]:
    """A constructor of the PML loss `name`, with its own options keyword-only, and `triplets`, `miner` and `labels` (see PmlLoss).

    Sizes are called `dim` and `categories`, which the pipeline fills in. Raises InputError for a name that PML does not have,
    one that cannot be adapted, and an option that the loss does not have.

    >>> loss = adapt("MultiSimilarityLoss")(alpha=2, miner="MultiSimilarityMiner")
    """
    known = adapted()
    if name in REFUSED:
        raise InputError(f"pml:{name} cannot be used here: {REFUSED[name]}")
    if name not in known:
        raise InputError(f"pytorch-metric-learning has no loss {name!r}{nearest(name, known)}")
    kind = getattr(losses, name)
    taken = options(kind)
    own: dict[str, Any] = {"triplets": False, "miner": None, "labels": "category"}
    parameters = [inspect.Parameter(o, inspect.Parameter.KEYWORD_ONLY, default=p.default) for o, p in taken.items()]
    parameters += [inspect.Parameter(o, inspect.Parameter.KEYWORD_ONLY, default=default) for o, default in own.items()]

    def make(**given: Any) -> PmlLoss:
        for option in given:
            if option not in taken and option not in own:
                raise InputError(f"pml:{name} has no option {option!r}{nearest(option, [*taken, *own])}")
        if missing := sorted(o for o, p in taken.items() if p.default is p.empty and o not in given):
            raise InputError(f"pml:{name} needs the options {', '.join(missing)}")
        theirs = kind(**{taken[option].name: value for option, value in given.items() if option in taken})
        adapted = PmlClassifier if hasattr(kind, "get_logits") else PmlLoss
        return adapted(theirs, **(own | {o: v for o, v in given.items() if o in own}), categories=given.get("categories"))

    make.__signature__ = inspect.Signature(parameters, return_annotation=PmlLoss)  # type: ignore[attr-defined]
    make.__name__, make.__doc__ = name, kind.__doc__
    return make
