"""Pipelines: `build` one from a recipe or from components, and train, evaluate and serve it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from PIL import Image
from torch import Tensor

from sbirlib import html, recipe_file
from sbirlib.build_call import build_call, parts_of
from sbirlib.data.batches import Prepared
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.data.strokes import usual_width
from sbirlib.device import joined_device
from sbirlib.errors import InputError
from sbirlib.interfaces import Classifier, Encoded, Encoder, Evaluator, Loss, Transform
from sbirlib.losses.fused_classifier import classifier_of
from sbirlib.processes import on_first, rank
from sbirlib.recipe import Recipe
from sbirlib.retrieval.encode import encode
from sbirlib.retrieval.expansion import in_gallery
from sbirlib.retrieval.indexes.base import Index
from sbirlib.retrieval.informative import uninformative
from sbirlib.search import SearchIndex
from sbirlib.spec import part
from sbirlib.training import checkpoint
from sbirlib.training.description import Chosen, Data
from sbirlib.training.interpolation import check_interpolation
from sbirlib.training.model import Model
from sbirlib.training.plan import Plan, check_encoders, make_losses, plan_training, warn_of_long_starts
from sbirlib.training.randomness import RandomStream, drawn_from, make_all
from sbirlib.training.run import Run, train
from sbirlib.training.source import Source
from sbirlib.training.steps import Position, StepEvent, steps
from sbirlib.training.tower import without_towers
from sbirlib.training.warm_start import interpolate, warm_start
from sbirlib.visual.retrievals import retrievals

logger = logging.getLogger(__name__)
TRIAL = 8  # images that are encoded before training, to find faults of later phases


def build(name: str | Mapping[str, Any] | None = None, /, **changes: Any) -> Pipeline:
    """A pipeline from a recipe's name (or TOML file, or tables), or from components alone; any key of the recipe may be changed.

    A component is a name, a table of options to change, or an object; a dotted key reaches anything else. Pure: no network, no files but
    the recipe's. Raises one InputError with every unknown name and every value that an option does not take.

    >>> build("mathm", encoder={"backbone": "resnet18", "pretrained": False}, **{"phases.0.steps": 300}).recipe.phases[0].steps
    300
    """
    tables, faults = recipe_file.changed(recipe_file.tables_of(name), changes)
    return Pipeline(Recipe.of(tables, faults))


class Pipeline:
    """One method, ready to train, evaluate and serve. `repr` prints the `build` call that makes it."""

    def __init__(self, recipe: Recipe, *, categories: Sequence[str] = ()) -> None:
        self.recipe = recipe
        self.categories, self.instances = tuple(categories), 0
        self.chosen: Chosen | None = None
        self.data: Data | None = None  # the last that it was trained on
        self.stroke_width: float | None = None  # of training sketches, as a share of the drawing's side
        specs = {"encoder": recipe.encoder, "transform": recipe.transform, "sampler": recipe.sampler, "miner": recipe.miner}
        components = make_all(specs | {f"evaluators.{name}": spec for name, spec in recipe.evaluators.items()}, recipe.seed)
        self.encoder: Encoder = components["encoder"]
        self.encoder.to(memory_format=torch.channels_last)  # from the start: another layout rounds differently
        self.transform: Transform = components["transform"]
        self.evaluators: dict[str, Evaluator] = {name: components[f"evaluators.{name}"] for name in recipe.evaluators}
        self.model = Model(self.encoder, miner=components["miner"])

    def __repr__(self) -> str:
        return build_call(self.recipe)

    def _repr_html_(self) -> str:
        return html.preformatted(repr(self)) + html.table(parts_of(self.recipe))

    @property
    def losses(self) -> dict[str, Loss]:
        """The losses by their names in the recipe; none before `fit`, which tells them how many categories there are."""
        return {name: self.model.loss(name) for name in self.model.losses}

    @property
    def classifies(self) -> bool:
        """Whether an evaluator reads a classifier's logits: then a model needs its losses (`save`), which `export` leaves out."""
        return any("logits" in evaluator.needs for evaluator in self.evaluators.values())

    def warm_start(self, path: str | Path, module: str = "encoder") -> Pipeline:
        """Initialise one module from a saved model, such as a dictionary of other sketches.

        `module` is a module path such as "encoder" or "encoder.descriptor", or two, ours:theirs, where they differ. Raises InputError where
        either model has no such module, or the two differ in shape.

        >>> fresh = build(pipeline.recipe.tables())
        >>> _ = fresh.warm_start("runs/mathm/model.safetensors", "encoder.backbone")
        """
        warm_start(self.model, path, module)
        return self

    def interpolate(self, other: Pipeline, share: float, module: str = "encoder") -> Pipeline:
        """Make one module's weights `share` times those of `other` and the rest its own, where the two were trained from one start.

        A trained backbone brought back some way to its pretrained weights often generalises better (Wortsman et al. 2022, WiSE-FT): `other`
        is then the recipe built anew, and `share` is to be chosen on validation. Raises InputError for a share outside [0, 1], and for
        modules that differ.

        >>> _ = trained.interpolate(build(trained.recipe.tables()), 0.3, "encoder.backbone")
        """
        interpolate(self.model, other.model, share, module)
        return self

    def plan(self, dataset: Dataset, *, shard: bool = False) -> Plan:
        """Losses, samplers and optimizers of a training on the dataset, made and checked before an image is read.

        Raises InputError for a recipe without phases, an empty split, a rule that names no parameter, a loss without its input, batches that
        cannot be sampled, and weights that cannot be divided among processes (`shard`).
        """
        if not self.recipe.phases:
            raise InputError(
                f"the recipe {self.recipe.name} has no phases, so there is nothing to train: index photos with it as it is, or add a loss and a "
                "phase, such as losses=['cross_entropy'], phases=[{'steps': 1000}] (--set losses=cross_entropy --set 'phases=[{steps = 1000}]')"
            )
        labels = dataset.train
        if len(labels) == 0:
            raise InputError(f"{dataset.name} has no training images in split {dataset.split_name!r}")
        if self.classifies and (untrained := sorted(set(dataset.test.categories) - set(labels.categories))):
            raise InputError(
                f"{self.recipe.name} is evaluated by its classifier, and split {dataset.split_name!r} tests categories without training images "
                f"({', '.join(untrained[:3])}, ...): choose a split of images, such as 'classification' or 'classification:train=4'"
            )
        if self.recipe.validate is not None and not len(dataset.validation):
            raise InputError(
                f"{self.recipe.name} validates, and split {dataset.split_name!r} of {dataset.name} has no validation images: take a split with some, "
                "such as 'seed:0', or leave out validate"
            )
        check_interpolation(self.model, self.recipe, len(dataset.validation))
        self.make_losses(labels.categories, labels.instances)
        return plan_training(self.model, self.recipe, labels, shard=shard)

    def steps(self, dataset: Dataset, *, device: str | None = None, workers: int | None = 0) -> Iterator[StepEvent]:
        """Train on the dataset's training split, with one event after each optimizer step; nothing is written or printed.

        The events' steps hold features, distances and triplets. Random draws of the caller in between change nothing.

        >>> for event in pipeline.steps(dataset):
        ...     print(event.done, event.total, sorted(event.losses))
        1 2 ['balanced_triplet.cross', 'balanced_triplet.hybrid', 'balanced_triplet.within', 'cross_entropy']
        2 2 ['balanced_triplet.cross', 'balanced_triplet.hybrid', 'balanced_triplet.within', 'cross_entropy']
        """
        plan, source, stream = self._start(dataset, Run(device=joined_device(device), workers=workers, progress=False))
        yield from drawn_from(stream, steps(plan, source, Position()))
        self.model.eval()

    def fit(
        self,
        dataset: Dataset,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        device: str | None = None,
        workers: int | None = None,
        save_every: int = 500,
        save_minutes: float | None = None,
        keep: int = 1,
        log_every: int = 10,
        progress: bool = True,
        tensorboard: bool = True,
        shard: bool = False,
        on_step: Callable[[StepEvent], object] | None = None,
    ) -> Pipeline:
        """Train on the dataset's training split. Checkpoints, `log.jsonl` and TensorBoard events go into `out`; `resume=True` goes on from there.

        Where the recipe validates, the pipeline ends with its best weights, `best.safetensors`, and `chosen` names their step. `workers` processes
        read images, chosen from the cores unless given. The files of the last `keep` checkpoints stay. `on_step` is called with a StepEvent after
        each step. On the CPU a resumed run ends bit-identical to one that was never stopped. Ctrl-C finishes the step, saves, and says how to go
        on. Under torchrun every process calls this, and trains on its share of each batch; with `shard` each holds a share of the encoder's weights.
        """
        run = Run(out=None if out is None else Path(out), resume=resume, device=joined_device(device), workers=workers, save_every=save_every,
                  save_minutes=save_minutes, keep=keep, log_every=log_every, progress=progress, tensorboard=tensorboard, shard=shard)  # fmt: skip
        run.check_new()
        self.stroke_width = usual_width(dataset.train.sketches, self.transform)
        plan, source, stream = self._start(dataset, run)
        validation = dataset.validation
        if self.recipe.validate and (fault := uninformative(validation.sketches, validation.photos, self.evaluators.values())):
            logger.warning("validation chooses no step: %s", fault)
        validate = partial(self._validated, dataset, str(run.device)) if len(validation) else None
        self.data = Data(name=dataset.name, split=dataset.split_name, digest=dataset.digest)
        self.chosen = train(plan, source, stream, run, about=self._about(exported=False), validate=validate, on_step=on_step)
        self.model.eval()
        return self

    def _start(self, dataset: Dataset, run: Run) -> tuple[Plan, Source, RandomStream]:
        """Everything that training steps need, on the device, with pretrained weights loaded for a fresh run."""
        plan, device = self.plan(dataset, shard=run.shard), run.device
        warn_of_long_starts(plan)
        if not run.resumes:
            self.model.load_weights()
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        prepared = Prepared(dataset.train, self.transform)
        prepared.warm(progress=run.progress)
        source = Source(prepared, self.recipe.seed, run.workers, device)
        if not run.resumes:  # a run that is resumed has passed the trial, and gets its weights from the checkpoint
            with RandomStream(self.recipe.seed, "trial", device):
                check_encoders(plan, source.first(plan.phases[0].sampler)[:TRIAL])
        return plan, source, RandomStream(self.recipe.seed, "training 0", device)

    def evaluate(
        self, dataset: Dataset, *, split: str = "test", device: str | None = None, batch_size: int = 128, progress: bool = True
    ) -> dict[str, float]:
        """The recipe's metrics with sketches as queries and photos as gallery, on one split of the dataset (all of it, if it is not split).

        Under torchrun every process calls this, and encodes its share of the images.
        """
        return self._metrics(*self.encode(dataset, split=split, device=device, batch_size=batch_size, progress=progress))

    def _metrics(self, queries: Encoded, gallery: Encoded) -> dict[str, float]:
        """The evaluators' metrics, computed by rank 0."""
        return on_first(lambda: {name: value for e in self.evaluators.values() for name, value in e.evaluate(queries, gallery).items()})

    def _validated(self, dataset: Dataset, device: str) -> tuple[dict[str, float], Callable[[], Image.Image] | None]:
        """Metrics on the validation split, and the picture of its retrievals, where photos are ranked."""
        queries, gallery = self.encode(dataset, split="validation", device=device, progress=False)
        picture = partial(retrievals, queries, gallery, dataset.validation) if len(gallery) and len(queries) else None
        return self._metrics(queries, gallery), picture

    def encode(
        self, dataset: Dataset, *, split: str = "test", device: str | None = None, batch_size: int = 128, progress: bool = True
    ) -> tuple[Encoded, Encoded]:
        """Input of the evaluators: one split's sketches as queries, expanded if the recipe says so, [Q, S, W], its photos as gallery, [G, W]."""
        selection = dataset.select(split)
        if len(selection) == 0:
            raise InputError(f"{dataset.name} has no {split} images in split {dataset.split_name!r}")
        classifier = None
        if self.classifies:
            classifier = self._classifier()
            selection = selection.numbered_as(self.categories)
        self.model.load_weights()
        common: dict[str, Any] = {"batch_size": batch_size, "device": self._moved(device), "progress": progress, "shared": True}
        queries = encode(self.encoder, selection.sketches, self.transform, side="query", classifier=classifier, **common)
        gallery = encode(self.encoder, selection.photos, self.transform, side="gallery", **common) if len(selection.photos) else queries[:0]
        return in_gallery(queries, gallery, self.recipe.expansion), gallery

    def encode_images(
        self,
        pictures: Any,
        *,
        side: Literal["query", "gallery"] = "gallery",
        device: str | None = None,
        batch_size: int = 128,
        progress: bool = True,
    ) -> Tensor:
        """Vectors of images (a dataset, a folder, or paths and PIL images): [G, V'] for the gallery, [Q, S, V'] for queries (sketches)."""
        dataset = pictures if isinstance(pictures, Dataset) else images(pictures, modality="sketch" if side == "query" else "photo")
        self.model.load_weights()
        place = self._moved(device)
        return encode(
            self.encoder, dataset, self.transform, side=side, batch_size=batch_size, device=place, progress=progress, shared=True
        ).vectors

    def index(
        self,
        photos: Any,
        *,
        kind: str | Mapping[str, Any] | Index = "flat",
        fields: Mapping[str, Mapping[str, Any]] | None = None,
        skip_bad: bool = False,
        device: str | None = None,
        batch_size: int = 128,
        progress: bool = True,
    ) -> SearchIndex:
        """An index over photos: a dataset, a folder, or a list of paths and PIL images.

        `kind` is an index by name, a table of its name and options, or an object; `fields` has more of each photo, by path, to filter by. With
        `skip_bad` photos that cannot be read are left out, and listed in one warning at the end.

        >>> len(pipeline.index("photos", kind={"name": "hnsw", "efSearch": 256}, progress=False))
        36
        """
        search_index = self.search_index(kind if isinstance(kind, Index) else part("index", kind))
        common: dict[str, Any] = {"device": self._moved(device), "batch_size": batch_size, "progress": progress, "shared": True}
        search_index.add(photos, fields=fields, skip_bad=skip_bad, **common)
        return search_index

    def search_index(self, index: Index) -> SearchIndex:
        """An index of vectors of this pipeline's encoder, to be searched with sketches."""
        own: dict[str, Any] = {"export": self.export, "stroke_width": self.stroke_width, "expansion": self.recipe.expansion}
        return SearchIndex(self.encoder, self.transform, index, digest=self.encoder_digest(), **own)

    def encoder_digest(self) -> str:
        """SHA-256 of encoder, weights and transform: vectors of equal digests can be compared."""
        self.model.load_weights()
        return checkpoint.digest(self.encoder.state_dict(), [self.recipe.encoder.table(), self.recipe.transform.table()])

    def classify(self, pictures: Any, *, k: int = 5, device: str | None = None, batch_size: int = 128) -> list[list[tuple[str, float]]]:
        """For each sketch the k likeliest training categories with their probabilities, likeliest first."""
        classifier = self._classifier()
        dataset = pictures if isinstance(pictures, Dataset) else images(pictures, modality="sketch")
        common: dict[str, Any] = {"batch_size": batch_size, "device": self._moved(device), "progress": True}
        encoded = encode(self.encoder, dataset, self.transform, side="query", classifier=classifier, **common)
        best = cast(Tensor, encoded.logits).softmax(1).topk(min(k, len(self.categories)))
        rows = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [[(self.categories[c], p) for p, c in zip(*row, strict=True)] for row in rows]

    def save(self, path: str | Path) -> None:
        """Write the whole pipeline, losses included, in one safetensors file; `load` reads it. Of several processes rank 0 writes."""
        if rank() == 0:
            exported = bool(self.categories) and not self.losses  # it was loaded from an export
            checkpoint.write(path, self.model.tensors(), self._about(exported=exported))

    def export(self, path: str | Path, *, whole: bool = True) -> None:
        """Write all that search needs in one file for `load`; if not `whole`, pretrained weights that are as they were by their digest alone."""
        self.model.load_weights()
        if rank() == 0:
            tensors = {k: v for k, v in self.model.tensors().items() if k.startswith("encoder.")}
            tensors, towers = (tensors, None) if whole else without_towers(tensors, self.recipe)
            checkpoint.write(path, tensors, self._about(exported=True, towers=towers))

    def make_losses(self, categories: Sequence[str], instances: int) -> None:
        """Make the losses for these categories and so many instances, unless they are there for the same."""
        if self.losses and self.categories == tuple(categories):
            return
        self.categories, self.instances = tuple(categories), instances
        self.model = Model(self.encoder, make_losses(self.recipe, self.model, len(categories), instances), self.model.miner)

    def _classifier(self) -> Classifier:
        if classifier := classifier_of(self.losses, self.recipe.phases):
            return classifier
        raise InputError(
            "no loss here is a classifier: the recipe trains none, or it is not trained yet, or was exported without its losses (save keeps them)"
        )

    def _about(self, *, exported: bool, towers: Mapping[str, Any] | None = None) -> dict[str, Any]:
        about = {"recipe": self.recipe.tables(), "categories": list(self.categories), "instances": self.instances, "exported": exported}
        later: dict[str, Any] = {"stroke_width": self.stroke_width, "towers": towers}
        later |= {name: record and record.model_dump() for name, record in (("chosen", self.chosen), ("data", self.data))}
        return about | {name: value for name, value in later.items() if value is not None}

    def _moved(self, device: str | None) -> str:
        """The device of that name, to which the model is moved."""
        place = joined_device(device)
        self.model.to(place)
        return str(place)
