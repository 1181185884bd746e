"""Losses of pytorch-metric-learning (PML) by name: "pml:MultiSimilarityLoss"."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from sbirlib.distance import at_least_float32
from sbirlib.errors import InputError, nearest
from sbirlib.interfaces import Classifier, Features, Loss, Step
from sbirlib.losses.cross_entropy import check_labels
from sbirlib.options import read_options, refuse

REFUSED = {
    "CrossBatchMemory": "its position in the queue is not in its state_dict, so training could not be resumed",
    "DynamicSoftMarginLoss": "its histogram is not in its state_dict, so training could not be resumed",
    "InstanceLoss": "it reads a category as the index of a row, so the order of a batch's rows changes it",
    "ManifoldLoss": "it takes no categories",
    "MultipleLosses": "a recipe names several losses itself, each with its weight",
    "SelfSupervisedLoss": "it needs two views of every image (ref_emb), and takes no categories",
    "SmoothAPLoss": "it assumes rows sorted by category, and is silently wrong where they are not",
    "VICRegLoss": "it needs two views of every image (ref_emb), and takes no categories",
}
# A recipe holds no objects; the regularizers' weights have no use without them.
OBJECTS = {"distance", "reducer", "embedding_regularizer", "embedding_reg_weight", "weight_regularizer", "weight_reg_weight"}
OBJECTS |= {"weight_init_func", "collect_stats", "mat_based_loss"}
OURS = {"embedding_size": "dim", "descriptors_dim": "dim", "num_classes": "categories"}
MOST = 1 - 1e-6  # some steps of float32 below 1, in which HistogramLoss finds the bin
SIZE = Annotated[int, Ge(1)]
TYPES: dict[str, Any] = {**dict.fromkeys(OURS.values(), SIZE), "triplets_per_anchor": SIZE | Literal["all"]}  # that no default tells


class EncoderDistance(LpDistance):
    """PML's distance, replaced by the encoder's distances [N, N]; other pairs, such as rows and proxies, stay PML's."""

    matrix: Tensor | None = None

    def forward(self, query: Tensor, reference: Tensor | None = None) -> Tensor:
        """Distances [N, M] to the power that the loss asks for."""
        if self.matrix is None or not (reference is None or reference is query):
            distances: Tensor = super().forward(query, reference)
            return distances
        powered: Tensor = self.matrix**self.power
        return powered


class Cosine(CosineSimilarity):
    """PML's cosine similarity, with values at most `MOST` in size. Their gradient is kept.

    Rows that coincide have 1, or more by rounding, where the gradient of an arc cosine is infinite and a histogram of similarities ends.
    """

    def forward(self, query: Tensor, reference: Tensor | None = None) -> Tensor:
        """Similarities [N, M], within (-1, 1)."""
        similarities: Tensor = super().forward(query, reference)
        return similarities + (similarities.clamp(-MOST, MOST) - similarities).detach()


class Mean(MeanReducer):
    """PML's mean over rows; zero, with a gradient, without rows."""

    def element_reduction(self, losses: Tensor, indices: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean of losses [N], a scalar []."""
        mean: Tensor = losses.mean() if len(losses) else self.zero_loss(embeddings)
        return mean


class PmlLoss(Loss):
    """A PML loss over the step's rows, in float32 at least, with its parameters' dtype left alone.

    A loss of Euclidean distances reads the encoder's own [N, N], one of similarities its embedding [N, D].

    Args:
        categories: number of categories that the loss has weights for, or none
        triplets: use the triplets of the recipe's miner, of all kinds
        miner: a PML miner for this loss alone, by name or a table of its name and options; pair miners included
        labels: rows are alike if of one category, or of one instance, that is a sketch and its photo
    """

    def __init__(
        self,
        loss: Any,
        *,
        categories: SIZE | None,
        triplets: bool = False,
        miner: str | Mapping[str, Any] | None = None,
        labels: Literal["category", "instance"] = "category",
    ) -> None:
        super().__init__()
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
        for holder in filter(None, (self.loss, self.miner)):
            if type(holder.distance) is LpDistance and holder.distance.p == 2:
                holder.distance = EncoderDistance(power=holder.distance.power)
        if type(loss.distance) is CosineSimilarity:
            loss.distance = Cosine()

    def forward(self, step: Step) -> Tensor:
        """PML's loss of the embedding [N, D], or of distances [N, N]: a scalar []."""
        embedding, labels = at_least_float32(step.features.embedding), getattr(step.features, self.labels)
        if not len(embedding):
            return embedding.sum()  # zero, with a gradient; some of PML's would be NaN
        if self.categories is not None:
            check_labels(labels, self.categories)
        if self.labels == "instance" and bool((labels < 0).any()):
            raise InputError("labels='instance' needs the instance of each image, and some images here have none")
        # PML casts parameters to the embedding's dtype, for good: it gets copies of that dtype.
        parameters = {name: value.to(embedding.dtype) for name, value in self.loss.named_parameters()}
        measures = [p.distance for p in (self.loss, self.miner) if p is not None and isinstance(p.distance, EncoderDistance)]
        try:
            for measure in measures:
                measure.matrix = at_least_float32(step.distances)
            with torch.autocast(embedding.device.type, enabled=False):
                indices = self.indices(step, embedding)
                with _in_words(self.loss, embedding):
                    loss = torch.func.functional_call(self.loss, parameters, (embedding, labels, indices))
        finally:
            for measure in measures:
                measure.matrix = None
        total: Tensor = loss.sum()  # some give [1]
        return total

    def indices(self, step: Step, embedding: Tensor) -> tuple[Tensor, ...] | None:
        """Indices [T] of the pairs or triplets for PML; None for its own choice."""
        if self.triplets:
            triplets = list(step.triplets.values())
            return tuple(torch.cat([getattr(t, rows) for t in triplets]) for rows in ("anchor", "positive", "negative"))
        if self.miner is not None:
            with _in_words(self.miner, embedding):
                mined: tuple[Tensor, ...] = self.miner(embedding.detach(), getattr(step.features, self.labels))
            return mined
        return None


class PmlClassifier(PmlLoss, Classifier):
    """A PML loss with a score for every category."""

    def logits(self, features: Features) -> Tensor:
        """Logits of each row [N, C]."""
        embedding = at_least_float32(features.embedding)
        with torch.autocast(embedding.device.type, enabled=False):
            scores: Tensor = self.loss.get_logits(embedding.to(next(self.loss.parameters()).dtype))
        return -scores if isinstance(self.loss, losses.ProxyNCALoss) else scores  # these are distances


@contextmanager
def _in_words(component: Any, embedding: Tensor) -> Iterator[None]:
    """Raise an exception of PML's loss or miner, on an embedding [N, D], as an InputError."""
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        name, values = f"pml:{type(component).__name__}", embedding.detach()
        if "indices_tuple" in str(error):
            raise InputError(f"{name} takes no pairs or triplets: leave out `triplets` and `miner` ({error})") from error
        sound = "finite" if bool(values.isfinite().all()) else "not all finite"
        raise InputError(
            f"{name} fails with {type(error).__name__}: {error}. It read {len(values)} embeddings of {values.shape[1]} dimensions, {sound}, "
            f"from {values.min().item():.3g} to {values.max().item():.3g}. Usual causes: values outside its range, an option that does not fit "
            "them, or a batch without the pairs that it needs: change its options or the sampler, or choose another loss"
        ) from error


def make_miner(spec: str | Mapping[str, Any]) -> Any:
    """A PML miner from its name, or a table of its name and options."""
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    names = [n for n in dir(miners) if n.endswith("Miner") and n != "BaseMiner"]
    if name not in names:
        raise InputError(f"pytorch-metric-learning has no miner {name!r}{nearest(str(name), names)}")
    try:
        return getattr(miners, name)(**options)
    except TypeError as error:
        raise InputError(f"miner = {name!r} does not take {options}: {error}") from error


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    """Parameters of a PML class and its parents, under sbirlib's names where training fills them in."""
    parameters: dict[str, inspect.Parameter] = {}
    for ancestor in kind.__mro__:
        for name, parameter in inspect.signature(ancestor.__init__).parameters.items():  # type: ignore[misc]
            by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if by_name and name not in {"self", *OBJECTS} and name not in {p.name for p in parameters.values()}:
                ours = OURS.get(name, name) if parameter.default is parameter.empty else name
                parameters[ours] = parameter
    return parameters


def adaptable() -> list[str]:
    """The names of PML's losses that `adapt` takes."""
    return [n for n in dir(losses) if n.endswith("Loss") and n != "GenericPairLoss" and n not in REFUSED]


def adapt(name: str) -> Callable[..., PmlLoss]:
    """Constructor of the PML loss `name`, with its own options, keyword-only and typed by their defaults, and those of `PmlLoss`.

    Sizes are called `dim` and `categories`, which training fills in. Raises InputError for a name that PML does not have and for a loss that
    cannot be adapted; the constructor does for an option that the loss does not have or lacks, and for a value of another type.

    >>> loss = adapt("MultiSimilarityLoss")(alpha=2, miner="MultiSimilarityMiner")
    """
    names = adaptable()
    if name in REFUSED:
        raise InputError(f"pml:{name} cannot be used here: {REFUSED[name]}")
    if name not in names:
        raise InputError(f"pytorch-metric-learning has no loss {name!r}{nearest(name, names)}")
    kind = getattr(losses, name)
    theirs = parameters_of(kind)
    signature = [
        inspect.Parameter(o, inspect.Parameter.KEYWORD_ONLY, default=p.default, annotation=TYPES.get(o, p.empty)) for o, p in theirs.items()
    ]
    signature += [p for p in inspect.signature(PmlLoss.__init__).parameters.values() if p.default is not p.empty]

    def make(**options: Any) -> PmlLoss:
        faults: list[str] = []
        options = read_options(make, options, f"pml:{name}", faults, owner=f"pml:{name}")
        refuse(faults)
        loss = kind(**{theirs[option].name: value for option, value in options.items() if option in theirs})
        adapter = PmlClassifier if hasattr(kind, "get_logits") else PmlLoss
        own = {option: value for option, value in options.items() if option not in theirs}
        return adapter(loss, categories=options.get("categories"), **own)

    make.__signature__ = inspect.Signature(signature, return_annotation=PmlLoss)  # type: ignore[attr-defined]
    make.__name__, make.__doc__ = name, kind.__doc__
    return make
