"""The front door: `build` a pipeline from a recipe or from parts, `load` one, and use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from sbirlib import recipe as recipes
from sbirlib import registry
from sbirlib.build_call import build_call
from sbirlib.data.batches import Prepared
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded, Encoder, Evaluator, Loss, Miner, Transform
from sbirlib.recipe import Recipe
from sbirlib.retrieval.encode import encode
from sbirlib.retrieval.indexes.base import Index, read_index, read_manifest
from sbirlib.search import SearchIndex
from sbirlib.training import checkpoint
from sbirlib.training.gather import rank
from sbirlib.training.loop import Run, train
from sbirlib.training.model import Model

PARTS = ("encoder", "miner", "transform", "sampler")
Objects = dict[str, Any]


def build(name: str | Mapping[str, Any] | None = None, /, **given: Any) -> Pipeline:
    """A pipeline from a recipe's name (or TOML file, or tables), or from parts alone; any key of the recipe may be changed.

    A part is a name, a table of options to change, or an object; a dotted key reaches anything else. Pure: no network, no files but
    the recipe's. Unknown keys, parts and options are refused with the nearest name.

    >>> build("mathm", encoder={"backbone": "resnet18"}, **{"phases.0.steps": 300})        # doctest: +SKIP
    >>> build(encoder="backbone", miner="batch_hard", losses=["triplet", "norm_softmax"])  # doctest: +SKIP
    """
    tables: dict[str, Any] = recipes.read(name) if isinstance(name, str) else {**recipes.DEFAULTS, **(name or {})}
    if isinstance(given.get("losses"), str):
        given["losses"] = [given["losses"]]
    changes, objects = _objects(given)
    if isinstance(given.get("losses"), Sequence):  # a list replaces the recipe's losses, and then all weigh 1
        tables = {**tables, "losses": {}, "phases": [{**phase, "weights": {}} for phase in tables.get("phases", [{"steps": 1000}])]}
    for key, value in changes.items():
        tables = recipes.assign(tables, key, value)
    return Pipeline(Recipe.of(tables), objects=objects)


def load(path: str | Path, **objects: Any) -> Pipeline:
    """A pipeline as it was saved, exported or checkpointed; nothing is fetched. Parts that were objects are handed over again by kind."""
    tensors, about = checkpoint.read(path)
    pipeline = Pipeline(Recipe.of(about["recipe"]), objects=_objects(objects)[1], categories=about["categories"])
    if not about["exported"]:
        pipeline.make_losses(tuple(about["categories"]), about["instances"])
    try:
        if about["exported"]:
            pipeline.encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in tensors.items()})
        else:
            pipeline.model.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(("optimizer.", "rng."))})
    except RuntimeError as error:
        raise InputError(f"{path} does not fit the recipe it carries ({error}): was it made by another version of a plugin?") from error
    return pipeline


def open_index(folder: str | Path) -> SearchIndex:
    """An index as `Pipeline.index(...).save(folder)` left it, with the encoder that made it."""
    place, about = Path(folder), read_manifest(folder)
    if "model" not in about:
        raise InputError(f"{folder} holds vectors but no encoder: open it with `read_index`, or index the photos with Pipeline.index")
    pipeline = load(place / about["model"])
    digest = pipeline.encoder_digest()
    if digest != about["encoder"]:
        raise InputError(
            f"{place / about['model']} is not the encoder that made this index ({about['encoder'][:12]}): index the photos again"
        )
    return SearchIndex(pipeline.encoder, pipeline.transform, read_index(place), digest=digest, export=pipeline.export, model=about["model"])


class Pipeline:
    """One method, ready to train, measure and serve. `repr` prints the `build` call that makes it."""

    def __init__(self, recipe: Recipe, *, objects: Objects | None = None, categories: Sequence[str] = ()) -> None:
        self.recipe = recipe.check()
        self.objects = dict(objects or {})
        self.categories = tuple(categories)
        self.instances = 0
        self.encoder: Encoder = self._make("encoder", self.recipe.encoder)
        self.encoder.to(memory_format=torch.channels_last)  # from the start: another layout rounds differently
        self.transform: Transform = self._make("transform", self.recipe.transform)
        self._make("sampler", self.recipe.sampler)
        self.evaluators: dict[str, Evaluator] = {
            k: self._make("evaluator", t, f"evaluators.{k}") for k, t in self.recipe.evaluators.items()
        }
        miner: Miner | None = self._make("miner", self.recipe.miner) if self.recipe.miner else None
        self.model = Model(self.encoder, miner=miner)

    def __repr__(self) -> str:
        return build_call(self.recipe)

    @property
    def losses(self) -> dict[str, Loss]:
        """The losses by their names in the recipe; none before `fit`, which tells them how many categories there are."""
        return {name: self.model.loss(name) for name in self.model.losses}

    @property
    def classifies(self) -> bool:
        """Whether an evaluator measures a classifier: then a model is of no use without its losses (`save`), which `export` leaves out."""
        return any("logits" in getattr(evaluator, "needs", ()) for evaluator in self.evaluators.values())

    def begin_with(self, path: str | Path, part: str = "encoder") -> Pipeline:
        """Give one part of this model the weights that it has in a saved one, to train on from there: a dictionary of other sketches, say.

        `part` is a place such as "encoder" or "encoder.descriptor", or two, mine:theirs, where it stands elsewhere in the saved model. Raises
        InputError where either model has no such part, or the two differ.

        >>> build("vtd").begin_with("runs/vtd/model.safetensors", "encoder.descriptor")  # doctest: +SKIP
        >>> build("vtd").begin_with("runs/hard-transfer/model.safetensors", "encoder.encoder:encoder")  # doctest: +SKIP
        """
        place, _, elsewhere = part.partition(":")
        mine, theirs = _part(self, place, path), _part(load(path, **self.objects), elsewhere or place, path)
        try:
            mine.load_state_dict(theirs.state_dict())
        except RuntimeError as error:
            raise InputError(f"{part} of {path} does not fit this model's: build both with the same options ({error})") from error
        return self

    def interpolate(self, other: Pipeline, share: float, part: str = "encoder") -> Pipeline:
        """Make one part's weights `share` times those of `other` and the rest its own, where the two were trained from one start.

        A trained backbone brought back some way to its pretrained weights often knows more of what it was not trained on (Wortsman et al.
        2022, WiSE-FT): `other` is then the recipe built anew, and `share` is to be chosen on validation. Raises InputError for a share
        outside [0, 1], and for parts that differ.

        >>> trained.interpolate(build(trained.recipe.tables()), 0.3, "encoder.backbone")  # doctest: +SKIP
        """
        if not 0 <= share <= 1:
            raise InputError(f"share is of the other's weights, from 0 to 1, got {share}")
        other.model.load_weights()
        mine, theirs = (_part(pipeline, part, "the other") for pipeline in (self, other))
        own, others = mine.state_dict(), theirs.state_dict()
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in others.items()}:
            raise InputError(f"the two differ in {part}: build both with the same options")
        moved = {name: torch.lerp(v, others[name].to(v.device), share) for name, v in own.items() if v.is_floating_point()}
        mine.load_state_dict(own | moved)
        return self

    def fit(
        self,
        dataset: Dataset,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        device: str | None = None,
        workers: int = 0,
        save_every: int = 500,
        log_every: int = 10,
        validate_every: int | None = None,
        progress: bool = True,
        tensorboard: bool = True,
    ) -> Pipeline:
        """Train on the dataset's training part. Checkpoints, `log.jsonl` and TensorBoard events go into `out`; `resume=True` goes on from there.

        On the CPU a resumed run ends bit-identical to one that was never stopped. Ctrl-C finishes the step, saves, and says how to go on.
        """
        run = Run(
            out=None if out is None else Path(out),
            resume=resume,
            device=_device(device),
            workers=workers,
            save_every=save_every,
            log_every=log_every,
            validate_every=validate_every,
            show=progress,
            tensorboard=tensorboard,
        )
        if run.checkpoint is not None and run.checkpoint.exists() and not resume:
            raise InputError(
                f"{run.out} holds the checkpoint of an earlier run: resume=True goes on with it; a new run needs another out=FOLDER"
            )
        seen = dataset.train
        if len(seen) == 0:
            raise InputError(f"{dataset.name} has no training images in split {dataset.split_name!r}")
        samplers = [self._make("sampler", phase.sampler or self.recipe.sampler) for phase in self.recipe.phases]
        self.make_losses(seen.categories, seen.instances)
        if not (resume and run.checkpoint is not None and run.checkpoint.exists()):
            self.model.load_weights()
        self.model.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        prepared = Prepared(seen, self.transform)
        prepared.warm(progress=progress)
        validate = (
            (lambda: self.evaluate(dataset, role="validation", device=str(run.device), progress=False)) if len(dataset.validation) else None
        )
        about = {**self._about(exported=False), "data": {"name": dataset.name, "split": dataset.split_name, "digest": dataset.split_digest}}
        with _seeded(self.recipe.seed, f"training {rank()}", run.device):
            train(self.model, self.recipe, prepared, samplers, run, about=about, validate=validate)
        self.model.eval()
        return self

    def evaluate(
        self, dataset: Dataset, *, role: str = "test", device: str | None = None, batch_size: int = 128, progress: bool = True
    ) -> dict[str, float]:
        """The recipe's metrics with sketches as queries and photos as gallery, on one part of the dataset (all of it, if it is not split)."""
        queries, gallery = self.encode(dataset, role=role, device=device, batch_size=batch_size, progress=progress)
        metrics: dict[str, float] = {}
        for evaluator in self.evaluators.values():
            metrics |= evaluator.evaluate(queries, gallery)
        return metrics

    def encode(
        self, dataset: Dataset, *, role: str = "test", device: str | None = None, batch_size: int = 128, progress: bool = True
    ) -> tuple[Encoded, Encoded]:
        """What `evaluate` hands to the evaluators: the sketches of one part of the dataset as queries, and its photos as gallery."""
        measured = dataset.part(role)
        if len(measured) == 0:
            raise InputError(f"{dataset.name} has no {role} images in split {dataset.split_name!r}")
        classifier = None
        if self.classifies:
            classifier = self._classifier()
            measured = measured.numbered_as(self.categories)
        self.model.load_weights()
        self.model.to(_device(device))
        common: dict[str, Any] = {"batch_size": batch_size, "device": str(_device(device)), "progress": progress}
        queries = encode(self.encoder, measured.sketches, self.transform, side="query", classifier=classifier, **common)
        gallery = encode(self.encoder, measured.photos, self.transform, side="gallery", **common) if len(measured.photos) else queries[:0]
        return queries, gallery

    def embed(
        self,
        pictures: Any,
        *,
        role: Literal["query", "gallery"] = "gallery",
        device: str | None = None,
        batch_size: int = 128,
        progress: bool = True,
    ) -> Tensor:
        """Vectors of images (a dataset, a folder, or paths and PIL images): [G, V'] for the gallery, [Q, S, V'] for queries (sketches)."""
        dataset = pictures if isinstance(pictures, Dataset) else images(pictures, modality="sketch" if role == "query" else "photo")
        self.model.load_weights()
        self.model.to(_device(device))
        return encode(
            self.encoder, dataset, self.transform, side=role, batch_size=batch_size, device=str(_device(device)), progress=progress
        ).vectors

    def index(
        self,
        photos: Any,
        *,
        kind: str | Mapping[str, Any] | Index = "flat",
        fields: Mapping[str, Mapping[str, Any]] | None = None,
        device: str | None = None,
        batch_size: int = 128,
        progress: bool = True,
    ) -> SearchIndex:
        """An index over photos: a dataset, a folder, or a list of paths and PIL images.

        `kind` is an index by name, a table of its name and options, or an object; `fields` has more of each photo, by path, to filter by.

        >>> pipeline.index("photos", kind={"name": "hnsw", "efSearch": 256})  # doctest: +SKIP
        """
        vectors = kind if isinstance(kind, Index) else registry.part("index", kind)
        dataset = photos if isinstance(photos, Dataset) else images(photos)
        made = self.search_index(vectors)
        embedded = self.embed(dataset.photos, device=device, batch_size=batch_size, progress=progress)
        made.add(dataset, fields=fields, vectors=embedded)
        return made

    def search_index(self, vectors: Index) -> SearchIndex:
        """An index of vectors that this pipeline's encoder made, or will make, to be asked with sketches."""
        return SearchIndex(self.encoder, self.transform, vectors, digest=self.encoder_digest(), export=self.export)

    def encoder_digest(self) -> str:
        """The SHA-256 of encoder, its weights and transform: vectors of equal digests can be compared."""
        self.model.load_weights()
        digest = hashlib.sha256(json.dumps([self.recipe.encoder, self.recipe.transform], sort_keys=True).encode())
        for name, tensor in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def classify(self, pictures: Any, *, k: int = 5, device: str | None = None, batch_size: int = 128) -> list[list[tuple[str, float]]]:
        """For each sketch the k likeliest training categories with their probabilities, likeliest first."""
        classifier = self._classifier()
        dataset = pictures if isinstance(pictures, Dataset) else images(pictures, modality="sketch")
        self.model.to(_device(device))
        encoded = encode(
            self.encoder,
            dataset,
            self.transform,
            side="query",
            batch_size=batch_size,
            device=str(_device(device)),
            progress=True,
            classifier=classifier,
        )
        best = cast(Tensor, encoded.logits).softmax(1).topk(min(k, len(self.categories)))
        rows = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [[(self.categories[c], p) for p, c in zip(*row, strict=True)] for row in rows]

    def save(self, path: str | Path) -> None:
        """The whole pipeline, losses included, in one safetensors file; `load` reads it."""
        checkpoint.write(path, self.model.tensors(), self._about(exported=False))

    def export(self, path: str | Path) -> None:
        """What search needs and no more: encoder, transform and recipe in one safetensors file; `load` reads it."""
        tensors = {k: v for k, v in self.model.tensors().items() if k.startswith("encoder.")}
        checkpoint.write(path, tensors, self._about(exported=True))

    def make_losses(self, categories: Sequence[str], instances: int) -> None:
        """Make the losses for so many categories and instances, unless they are already there for the same."""
        if self.losses and self.categories == tuple(categories):
            return
        self.categories, self.instances = tuple(categories), instances
        fill = {"categories": len(categories), "instances": instances}
        made: dict[str, Loss] = {}
        for name, table in self.recipe.losses.items():
            made[name] = self._make("loss", table, f"losses.{name}", {**fill, "dim": self._encoders_of(name)[0].dim})
            self._check_loss(name, made[name])
        self.model = Model(self.encoder, made, self.model.miner)

    def _classifier(self) -> Loss:
        for loss in self.losses.values():
            if hasattr(loss, "logits"):
                return loss
        raise InputError(
            "no loss here is a classifier: the recipe has none, or it is not trained yet, or was exported without its losses (save keeps them)"
        )

    def _make(self, kind: str, table: Mapping[str, Any], path: str | None = None, fill: Mapping[str, Any] | None = None) -> Any:
        """A part, with initial values that depend on the recipe's seed and the part's place alone."""
        place = path or kind
        if table["name"].startswith("object:"):
            if place not in self.objects:
                raise InputError(f"{place} was handed over as an object ({table['name']}): hand it over again, load(path, {kind}=...)")
            return self.objects[place]
        with _seeded(self.recipe.seed, place):
            return registry.construct(kind, table, fill=fill)

    def _encoders_of(self, loss: str) -> list[Encoder]:
        """The encoders whose rows a loss reads: the parts that its phases run; the whole, if it acts in none."""
        parts = {name: part for name, part in self.encoder.named_modules() if isinstance(part, Encoder)}
        named = {phase.encoder or "" for phase in self.recipe.phases if loss in phase.weights}
        return [parts[name] for name in sorted(named) if name in parts] or [self.encoder]  # a name of none is refused when training begins

    def _check_loss(self, name: str, loss: Loss) -> None:
        encoders = self._encoders_of(name)
        for encoder in encoders:
            there = encoder.provides | ({"triplets"} if self.model.miner is not None else set())
            for need in sorted(loss.needs - there):
                way = "give the recipe a miner" if need == "triplets" else "choose an encoder that provides it"
                raise InputError(
                    f"loss {name!r} needs {need!r}, which nothing here provides: {way} (provided: {', '.join(sorted(there)) or 'nothing'})"
                )
        told, dims = self.recipe.losses[name].get("dim"), sorted({encoder.dim for encoder in encoders})
        if told is not None and dims != [told]:
            raise InputError(
                f"losses.{name}.dim is {told}, but the embedding it reads has {' and '.join(map(str, dims))} dimensions: "
                "leave it out to have it filled in"
            )
        table = self.recipe.losses[name]
        if len(dims) > 1 and not table["name"].startswith("object:") and "dim" in registry.options("loss", table["name"]):
            raise InputError(
                f"loss {name!r} acts in phases with embeddings of {' and '.join(map(str, dims))} dimensions: give each phase its own"
            )

    def _about(self, *, exported: bool) -> dict[str, Any]:
        return {"recipe": self.recipe.tables(), "categories": list(self.categories), "instances": self.instances, "exported": exported}


@contextmanager
def _seeded(seed: int, place: str, device: torch.device | None = None) -> Iterator[None]:
    """Draw from a stream of one's own, and leave the CPU's global one as it was."""
    before = torch.get_rng_state()
    number = int.from_bytes(hashlib.sha256(f"{seed}/{place}".encode()).digest()[:7], "big")
    torch.default_generator.manual_seed(number)  # torch.manual_seed would also touch the devices
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(number)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _part(pipeline: Pipeline, place: str, other: Any) -> torch.nn.Module:
    try:
        return pipeline.model.get_submodule(place)
    except AttributeError as error:
        raise InputError(f"{place!r} is not a part of both this model and {other} ({error}): name one such as 'encoder'") from error


def _device(name: str | None) -> torch.device:
    """The device of that name, or the GPU if there is one."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {name!r} was asked for, but torch finds no GPU: leave it out, or say device='cpu'")
    return torch.device(name)


def _objects(changes: Mapping[str, Any]) -> tuple[dict[str, Any], Objects]:
    """Take the objects out of a `build` call: their places in the recipe hold only what they are."""
    plain, objects = dict(changes), {}

    def taken(place: str, value: Any) -> Any:
        if value is None or isinstance(value, str | Mapping):
            return value
        objects[place] = value
        return {"name": f"object:{type(value).__name__}"}

    for key in PARTS:
        if key in plain:
            plain[key] = taken(key, plain[key])
    for key in ("losses", "evaluators"):
        given = plain.get(key)
        if isinstance(given, Mapping):
            plain[key] = {name: taken(f"{key}.{name}", value) for name, value in given.items()}
        elif given is not None:
            names = [v if isinstance(v, str) else v["name"] if isinstance(v, Mapping) else type(v).__name__ for v in given]
            plain[key] = [taken(f"{key}.{name}", value) for name, value in zip(names, given, strict=True)]
            plain[key] = {n: {"name": v} if isinstance(v, str) else v for n, v in zip(names, plain[key], strict=True)}
    return plain, objects
