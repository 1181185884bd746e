"""Conversion of an index of the earlier format, which had no digests and kept FAISS's own files, to the present one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter

from sbirlib import registry, sealed
from sbirlib.documents import Count, Schema, read_json
from sbirlib.errors import InputError
from sbirlib.progress import track
from sbirlib.retrieval.indexes.base import Index, new_name
from sbirlib.retrieval.indexes.local import Local
from sbirlib.retrieval.indexes.manifest import ANY, MANIFEST, UPGRADED, FileName, Word, manifest_of, text_of
from sbirlib.retrieval.indexes.shards import read_old_shard
from sbirlib.spec import part


class OldState(Schema):
    """State of an index of that format; a structure is trained anew from the vectors, never read."""

    files: list[FileName]
    options: dict[str, Any]
    shards: list[FileName] = Field(default_factory=list)
    removed: list[Count] = Field(default_factory=list)
    structure: list[FileName] = Field(default_factory=list)


class OldManifest(Schema):
    """Manifest of that format."""

    format: int
    kind: Word
    state: OldState
    encoder: Word | None = None
    model: FileName | None = None


SCHEMA = TypeAdapter(OldManifest)


def upgrade(folder: str | Path) -> Index:
    """Rewrite the index of format 3 in a folder; photos, ids, removals and the encoder stay.

    Vectors are read as they are, for that format has no digests. What an approximate kind had learnt is learnt anew from the vectors. A
    failure, or a kill, leaves the former index.
    """
    place = Path(folder)
    text = text_of(place)
    where = repr(str(place / MANIFEST))
    if text is None or read_json(text, ANY, where).get("format") != UPGRADED:
        manifest_of(text, folder)  # which refuses what is no index, and other formats
        raise InputError(f"{folder} is an index of the present format already, so there is nothing to rewrite")
    old = read_json(text, SCHEMA, where)
    kind: Any = registry.load("index", old.kind)
    index: Index = _local(place, old) if issubclass(kind, Local) else kind.read(place, {"options": old.state.options, "files": []})
    index.origin = (place.resolve(), text)
    if old.model is None:
        index.save(place)
        return index
    source, model = _own(place / old.model), new_name("model")
    index.save(place, about={"encoder": old.encoder, "model": model}, attached={model: lambda path: _copy(source, path)})
    return index


def _local(place: Path, old: OldManifest) -> Local:
    if len(set(old.state.shards)) < len(old.state.shards):
        raise InputError(f"{str(place / MANIFEST)!r} is damaged: it names a file twice; index the photos again")
    index: Local = part("index", {"name": old.kind, **old.state.options})
    for file in track(old.state.shards, total=len(old.state.shards), label="reading vectors"):
        shard = read_old_shard(_own(place / file))
        if index.dim not in (0, shard.vectors.shape[1]):
            raise InputError(f"{str(place / file)!r} holds vectors {list(shard.vectors.shape)}, expected [N, {index.dim}]")
        index.restore(shard, removed=set(old.state.removed))
    if not old.state.shards or max(old.state.removed, default=0) >= index.size:
        raise InputError(f"{str(place / MANIFEST)!r} is damaged: its state does not add up; index the photos again")
    index.paths()  # which refuses a path that is there twice
    return index


def _own(path: Path) -> Path:
    """The path of a file of the index itself."""
    if path.is_symlink():
        raise InputError(f"{str(path)!r} is a link: put the file itself there")
    return path


def _copy(source: Path, target: Path) -> None:
    """The same model, sealed."""
    tensors, text = sealed.read(source)
    about = read_json(text or "{}", ANY, f"the description in {str(source)!r}")
    if not isinstance(about.get("recipe"), dict):
        raise InputError(f"{str(source)!r} is no model of sbirlib: it holds no recipe; index the photos again")
    sealed.write(target, tensors, {name: value for name, value in about.items() if name != sealed.KEY})
