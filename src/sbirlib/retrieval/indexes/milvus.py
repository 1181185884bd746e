"""Milvus index: a collection in a file (milvus-lite), a server, or a cluster."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from sbirlib.documents import Schema, read_object
from sbirlib.errors import InputError, nearest, without_secrets
from sbirlib.progress import track
from sbirlib.retrieval.indexes.base import Index, State, UnknownField, Where, check_records, merged
from sbirlib.retrieval.indexes.shards import Record, Value
from sbirlib.spec import part

TOKEN = "SBIRLIB_MILVUS_TOKEN"  # environment variable; the token is never saved
SERVER = "SBIRLIB_MILVUS_URI"  # environment variable: the one server that an index from a file may send the token to
PATIENCE = 120.0  # seconds for one answer
MAX_ROWS = 16_384  # photos in one answer, and queries in one request: Milvus's own limits
MAX_RECORD = 65_536  # bytes of a photo's fields: Milvus's own limit
MESSAGE, ANSWER = 2**24, 2**20  # bytes of vectors in a request, and photos in an answer
IndexType = Literal["AUTOINDEX", "FLAT", "HNSW", "IVF_FLAT"]
Parameters = Mapping[str, bool | int | float | str]
INDEX_TYPES: dict[IndexType, tuple[dict[str, int], dict[str, int]]] = {  # default index_params and search_params
    "AUTOINDEX": ({}, {}),
    "FLAT": ({}, {}),
    "HNSW": ({"M": 32, "efConstruction": 200}, {"ef": 128}),
    "IVF_FLAT": ({"nlist": 1024}, {"nprobe": 32}),
}


class Saved(Schema):
    """State of a saved index in Milvus: where the collection is, and its options."""

    files: list[str]
    options: dict[str, Any]


STATE = TypeAdapter(Saved)


class Milvus(Index):
    """A Milvus collection, which any number of processes may search while one adds or removes.

    A token that the server may need is read from the environment (SBIRLIB_MILVUS_TOKEN). An index that is opened from its folder, which
    a stranger may have written, sends it to the server in SBIRLIB_MILVUS_URI and to no other. Photos persist once `add` returns, saved or not:
    `save` writes only the collection's address. Equal scores come in the order of adding among Milvus's results. Needs the extra `milvus`.

    Args:
        uri: file that ends with .db, served within this process by milvus-lite, or address of a server, "http://localhost:19530"
        collection: name of the collection
        index_type: Milvus's own index type
        index_params: Milvus's own parameters of that index; its defaults where none
        search_params: Milvus's own parameters of a search; the defaults of the index type where none
        replace: drop an existing collection of this name, which is an error otherwise
    """

    kind = "milvus"

    def __init__(
        self,
        *,
        uri: str,
        collection: str = "sbirlib",
        index_type: IndexType = "HNSW",
        index_params: Parameters | None = None,
        search_params: Parameters | None = None,
        replace: bool = False,
    ) -> None:
        _check_address(uri)
        self.uri = uri if "://" in uri else str(Path(uri).resolve())
        self.collection, self.index_type, self.replace = collection, index_type, replace
        defaults = INDEX_TYPES[index_type]
        self.index_params = dict(defaults[0] if index_params is None else index_params)
        self.search_params = dict(defaults[1] if search_params is None else search_params)
        self._dim, self._from_file = 0, False

    @cached_property
    def client(self) -> Any:
        """The connection to Milvus."""
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise InputError("an index in Milvus needs more packages: pip install 'sbirlib[milvus]'") from error
        token = os.environ.get(TOKEN, "")
        if token and self._from_file and os.environ.get(SERVER) != self.uri:
            raise InputError(f"this index names the server {self.uri}; if you trust it with the token in {TOKEN}, set {SERVER}={self.uri}")
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs every error before it raises it
        try:
            return MilvusClient(self.uri, token=token, timeout=10)
        except Exception as error:  # milvus-lite raises the errors of its storage
            raise InputError(
                f"no Milvus can be opened at {self.uri} ({_message(error)}): is it running, or in use by another process?"
            ) from error

    def __len__(self) -> int:
        return self._count("") if self._dim else 0

    @property
    def dim(self) -> int:
        return self._dim

    def add(self, vectors: Tensor, records: Sequence[Record]) -> None:
        """Add photos by their vectors [N, V], with a record each; if it is interrupted, some of them may be added."""
        rows = self.checked(vectors, dims=(2,))
        paths = self._ids(str(record.get("path")) for record in records) if self._dim else {}
        check_records(records, len(rows), paths)
        for record in records:
            if (size := len(json.dumps(record, ensure_ascii=False).encode())) >= MAX_RECORD:
                raise InputError(f"the fields of {record['path']!r} are {size} bytes, Milvus keeps at most {MAX_RECORD} of each photo")
        if not self._dim:
            self._create(rows.shape[1])
        step = max(1, MESSAGE // (4 * rows.shape[1]))
        starts = range(0, len(rows), step)
        for i in track(starts, total=len(starts), label="adding to Milvus"):
            data = [_entity(vector, record) for vector, record in zip(rows[i : i + step], records[i : i + step], strict=True)]
            self._call("insert", data=data)

    def remove(self, paths: Collection[str]) -> None:
        ids = self._ids(paths)
        for path in paths:
            if path not in ids:
                raise InputError(f"{path!r} is not in the index, so it cannot be removed")
        for batch in _batches(list(ids.values())):
            self._call("delete", ids=batch)

    def search(self, queries: Tensor, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """Scores and ids [Q, min(k, matches)] for queries [Q, S, V] or [Q, V]; see `Index.search`."""
        vectors = self.checked(queries, dims=(2, 3))
        if k > MAX_ROWS:
            raise InputError(f"Milvus finds at most {MAX_ROWS} photos for a query, got k={k}: ask for fewer, or use a flat index")
        flat, filter = vectors.reshape(-1, vectors.shape[-1]), _matching(where or {})
        scores, ids = self._nearest(flat, max(k, 0), filter)
        if not ids.size or (ids < 0).any():  # there may be fewer than k
            self.check_search(k)
            fields = self._fields(where or {})
            if unknown := [field for field in where or {} if field not in fields]:
                raise UnknownField(f"no photo here has a field {unknown[0][:80]!r}{nearest(unknown[0], fields)}")
            k = min(k, self._count(filter))
        if k == 0:
            return torch.empty(len(vectors), 0), torch.empty(len(vectors), 0, dtype=torch.int64)
        return merged(scores.reshape(len(vectors), -1), ids.reshape(len(vectors), -1), k)

    def count(self, where: Where | None = None) -> int:
        return self._count(_matching(where or {})) if self._dim else 0

    def records(self, ids: Tensor) -> list[Record]:
        """The records of the photos with these ids [N]."""
        wanted = ids.tolist()
        by_id: dict[int, Record] = {}
        for batch in _batches(sorted(set(wanted))):
            by_id |= {row["id"]: row["record"] for row in self._call("query", filter=f"id in {batch}", output_fields=["id", "record"])}
        if unknown := [i for i in wanted if i not in by_id]:
            raise InputError(f"no photo of this index has the id {unknown[0]}")
        return [by_id[i] for i in wanted]

    def vectors(self, paths: Sequence[str]) -> Tensor:
        ids, by_id = self._ids(paths), dict[int, Any]()
        if unknown := [path for path in paths if path not in ids]:
            raise InputError(f"{unknown[0]!r} is not in the index")
        step = max(1, MESSAGE // (4 * max(self._dim, 1)))
        for i in range(0, len(paths), step):
            batch = [ids[path] for path in paths[i : i + step]]
            by_id |= {row["id"]: row["vector"] for row in self._call("query", filter=f"id in {batch}", output_fields=["id", "vector"])}
        return torch.from_numpy(np.array([by_id[ids[path]] for path in paths], dtype=np.float32).reshape(len(paths), -1))

    def all_records(self) -> Iterator[Record]:
        if not self._dim:
            return
        pages = self._call("query_iterator", batch_size=4096, filter="", output_fields=["id", "record"])
        rows: dict[int, Record] = {}
        while page := pages.next():
            rows |= {row["id"]: row["record"] for row in page}
        pages.close()
        yield from (rows[i] for i in sorted(rows))

    def write(self, folder: Path) -> State:
        if len(self) == 0:
            raise InputError("the index is empty: add photos before saving it")
        options = {name: getattr(self, name) for name in ("uri", "collection", "index_type", "index_params", "search_params")}
        return {"files": [], "options": options}

    @classmethod
    def read(cls, folder: Path, state: State) -> Self:
        index: Self = part("index", {"name": cls.kind, **read_object(state, STATE, "state").options})
        index._from_file = True
        if "://" not in index.uri and not _is_database(Path(index.uri)):
            raise InputError(f"{folder} is an index in {index.uri}, which is gone: put it back, or index the photos again")
        if not index._call("has_collection"):
            raise InputError(f"Milvus at {index.uri} has no collection {index.collection!r} any more: index the photos again")
        fields = index._call("describe_collection")["fields"]
        index._dim = next(int(field["params"]["dim"]) for field in fields if field["name"] == "vector")
        index._call("load_collection")
        return index

    def _create(self, dim: int) -> None:
        from pymilvus import DataType, MilvusClient

        if self._call("has_collection"):
            if not self.replace:
                raise InputError(
                    f"Milvus at {self.uri} has a collection {self.collection!r} already: open its index to add to it, give another "
                    "collection=NAME, or replace=true to drop it"
                )
            self._call("drop_collection")
        schema = MilvusClient.create_schema(auto_id=True, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        schema.add_field("key", DataType.VARCHAR, max_length=32)
        schema.add_field("terms", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4096, max_length=32)
        schema.add_field("record", DataType.JSON)
        parameters = MilvusClient.prepare_index_params()
        parameters.add_index("vector", index_type=self.index_type, metric_type="IP", params=self.index_params)
        self._call("create_collection", schema=schema, index_params=parameters, consistency_level="Strong")
        self._dim = dim

    def _nearest(self, queries: Any, k: int, filter: str) -> tuple[Any, Any]:
        """Milvus's results for queries [N, V]: scores and ids [N, k], -inf and -1 where it finds fewer."""
        search_params = dict(self.search_params)
        if "ef" in search_params:
            search_params["ef"] = max(search_params["ef"], k)
        scores, ids = np.full((len(queries), k), -np.inf, dtype=np.float32), np.full((len(queries), k), -1, dtype=np.int64)
        if k == 0 or not self._dim:
            return scores, ids
        step = max(1, min(MESSAGE // (4 * queries.shape[1]), ANSWER // k, MAX_ROWS))
        for i in range(0, len(queries), step):
            results = self._call(
                "search",
                data=queries[i : i + step],
                limit=k,
                filter=filter,
                anns_field="vector",
                search_params={"metric_type": "IP", "params": search_params},
                output_fields=["id"],
                consistency_level="Strong",
            )
            for row, hits in enumerate(results, i):
                scores[row, : len(hits)] = [hit["distance"] for hit in hits]
                ids[row, : len(hits)] = [hit["id"] for hit in hits]
        return scores, ids

    def _count(self, filter: str) -> int:
        return int(self._call("query", filter=filter, output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"])

    def _fields(self, fields: Iterable[str]) -> set[str]:
        """Those of `fields` that some photo has, and the fields of the first few photos."""
        if not self._dim:
            return set()
        few = self._call("query", filter="", limit=10, output_fields=["record"])
        return {field for row in few for field in row["record"]} | {field for field in fields if self._count(_holds(_term(field)))}

    def _ids(self, paths: Iterable[str]) -> dict[str, int]:
        """The ids of those paths that are in the index."""
        by_key = {_term("path", path): path for path in paths}
        ids: dict[str, int] = {}
        for batch in _batches(sorted(by_key)):
            rows = self._call("query", filter=f"key in {json.dumps(batch)}", output_fields=["id", "key"], consistency_level="Strong")
            ids |= {by_key[row["key"]]: row["id"] for row in rows}
        return ids

    def _call(self, method: str, **arguments: Any) -> Any:
        """One call to Milvus about the collection."""
        client = self.client
        try:
            return getattr(client, method)(collection_name=self.collection, timeout=PATIENCE, **arguments)
        except Exception as error:  # pymilvus, grpc and milvus-lite each have their own
            raise InputError(
                f"Milvus at {self.uri} failed ({method}: {_message(error)}); photos that were added before are kept"
            ) from error


def _check_address(uri: str) -> None:
    """Refuse all but a file that ends with .db and the plain address of a server."""
    way = "give a file that ends with .db, or the address of a server such as http://localhost:19530"
    if "://" not in uri:
        if not uri.endswith(".db") or not uri.isprintable() or len(uri) > 4000:
            raise InputError(f"uri={uri[:80]!r}: {way}")
        return
    try:
        address = urlsplit(uri)
        sound = address.scheme in ("http", "https", "tcp") and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:
        sound = False
    if "@" in uri:
        raise InputError(f"an address with a password in it would be saved: give the token in the environment, as {TOKEN}")
    if not sound or not re.fullmatch(r"\w+://[\w.:\[\]-]+(/[\w./-]*)?", uri):
        raise InputError(f"uri={uri[:80]!r}: {way}")


def _is_database(path: Path) -> bool:
    """Whether milvus-lite made this file or folder: it fills any folder that it opens."""
    try:
        return path.is_file() or (path / "databases").exists()
    except OSError:
        return False


def _entity(vector: Any, record: Record) -> dict[str, Any]:
    terms = [term for field, value in record.items() for term in (_term(field), _term(field, value))]
    return {"vector": vector, "key": _term("path", record["path"]), "terms": terms, "record": dict(record)}


def _term(field: str, *value: Value) -> str:
    """A hash of a field, or of a field and its value: 32 letters that need no quoting; equal numbers have equal hashes."""
    plain = [int(v) if isinstance(v, int | float) and math.isfinite(v) and v == int(v) else v for v in value]
    return hashlib.sha256(json.dumps([field, *plain]).encode()).hexdigest()[:32]


def _holds(*terms: str) -> str:
    if not terms:
        return "id < 0"  # none
    return f"array_contains_any(terms, {json.dumps(list(terms))})"


def _matching(where: Where) -> str:
    """The Milvus filter for photos whose fields have these values, or one of a list of values."""
    lists = {f: v if isinstance(v, Sequence) and not isinstance(v, str) else [v] for f, v in where.items()}
    return " and ".join(_holds(*(_term(field, value) for value in values)) for field, values in lists.items())


def _batches(values: list[Any]) -> Iterable[list[Any]]:
    """Batches that Milvus can answer at once."""
    return (values[i : i + MAX_ROWS // 2] for i in range(0, len(values), MAX_ROWS // 2))


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {without_secrets(getattr(error, 'message', None) or error)}"
