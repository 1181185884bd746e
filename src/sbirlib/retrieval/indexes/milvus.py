"""An index that Milvus holds: in a file (milvus-lite), a server, or a cluster, by its address."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from sbirlib.errors import InputError
from sbirlib.progress import track
from sbirlib.retrieval.indexes.base import Index, State, Where, check_records, merged
from sbirlib.retrieval.indexes.shards import Record, Value

TOKEN = "SBIRLIB_MILVUS_TOKEN"  # the environment's, as it is written nowhere
PATIENCE = 120.0  # seconds for one answer
LARGEST = 16_384  # photos in one answer, and queries in one question: Milvus's own limits
RECORD = 65_536  # bytes of a photo's fields: Milvus's own limit
MESSAGE, ANSWER = 2**24, 2**20  # bytes of vectors sent, and photos found, at once
STRUCTURES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "AUTOINDEX": ({}, {}),
    "FLAT": ({}, {}),
    "HNSW": ({"M": 32, "efConstruction": 200}, {"ef": 128}),
    "IVF_FLAT": ({"nlist": 1024}, {"nprobe": 32}),
}


class Milvus(Index):
    """Photos as a collection of Milvus, which any number of processes may search while one adds or removes.

    `uri` is a file that ends with .db, served within this process by milvus-lite, or the address of a server or cluster
    ("http://localhost:19530"), whose token, where it wants one, is read from the environment (SBIRLIB_MILVUS_TOKEN). `structure` is one
    of Milvus's indexes, `building` and `searching` its parameters where they shall not be ours. `replace` drops a collection that is
    there under this name already, which is an error without it. A photo that was added is kept from then on, saved or not: what `save`
    writes is where the collection is. Equal scores come in the order of adding among what Milvus found. Needs the extra `milvus`.
    """

    kind = "milvus"

    def __init__(
        self,
        *,
        uri: str,
        collection: str = "sbirlib",
        structure: str = "HNSW",
        building: Mapping[str, Any] | None = None,
        searching: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> None:
        if "://" not in uri and not uri.endswith(".db"):
            raise InputError(f"uri={uri!r}: give a file that ends with .db, or the address of a server such as http://localhost:19530")
        if structure not in STRUCTURES:
            raise InputError(f"structure={structure!r}: choose one of {', '.join(STRUCTURES)}")
        self.uri = uri if "://" in uri else str(Path(uri).resolve())
        self.collection, self.structure, self.replace = collection, structure, replace
        ours = STRUCTURES[structure]
        self.building, self.searching = dict(ours[0] if building is None else building), dict(ours[1] if searching is None else searching)
        self._dim = 0

    @cached_property
    def client(self) -> Any:
        """The connection to Milvus."""
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise InputError("an index in Milvus needs more packages: pip install 'sbirlib[milvus]'") from error
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs every error before it raises it
        try:
            return MilvusClient(self.uri, token=os.environ.get(TOKEN, ""), timeout=10)
        except Exception as error:  # milvus-lite raises what its storage raises
            raise InputError(
                f"no Milvus can be opened at {self.uri} ({_said(error)}): is it running, or in use by another process?"
            ) from error

    def __len__(self) -> int:
        return self._count("") if self._dim else 0

    @property
    def dim(self) -> int:
        return self._dim

    def add(self, vectors: Tensor, records: Sequence[Record]) -> None:
        rows = self.vectors(vectors, dims=(2,))
        known = self._ids(str(record.get("path")) for record in records) if self._dim else {}
        check_records(records, len(rows), known)
        for record in records:
            if (size := len(json.dumps(record, ensure_ascii=False).encode())) >= RECORD:
                raise InputError(f"the fields of {record['path']!r} are {size} bytes, Milvus keeps at most {RECORD} of each photo")
        if not self._dim:
            self._create(rows.shape[1])
        some = max(1, MESSAGE // (4 * rows.shape[1]))
        starts = range(0, len(rows), some)
        for i in track(starts, total=len(starts), label="adding to Milvus"):
            data = [_entity(vector, record) for vector, record in zip(rows[i : i + some], records[i : i + some], strict=True)]
            self._ask("insert", data=data)

    def remove(self, paths: Collection[str]) -> None:
        ids = self._ids(paths)
        for path in paths:
            if path not in ids:
                raise InputError(f"{path!r} is not in the index, so it cannot be removed")
        for some in _parts(list(ids.values())):
            self._ask("delete", ids=some)

    def search(self, queries: Tensor, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        asked = self.vectors(queries, dims=(2, 3))
        if k > LARGEST:
            raise InputError(f"Milvus finds at most {LARGEST} photos for a query, got k={k}: ask for fewer, or use a flat index")
        flat, filter = asked.reshape(-1, asked.shape[-1]), _matching(where or {})
        scores, ids = self._nearest(flat, max(k, 0), filter)
        if not ids.size or (ids < 0).any():  # there may be fewer than k
            self.check_search(k, where, self._fields(where or {}))
            k = min(k, self._count(filter))
        if k == 0:
            return torch.empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.int64)
        return merged(scores.reshape(len(asked), -1), ids.reshape(len(asked), -1), k)

    def records(self, ids: Tensor) -> list[Record]:
        wanted = ids.tolist()
        found: dict[int, Record] = {}
        for some in _parts(sorted(set(wanted))):
            found |= {row["id"]: row["record"] for row in self._ask("query", filter=f"id in {some}", output_fields=["id", "record"])}
        return [found[i] for i in wanted]

    def paths(self) -> list[str]:
        if not self._dim:
            return []
        pages = self._ask("query_iterator", batch_size=4096, filter="", output_fields=["id", "record"])
        rows = []
        while page := pages.next():
            rows += [(row["id"], row["record"]["path"]) for row in page]
        pages.close()
        return [path for _, path in sorted(rows)]

    def write(self, folder: Path) -> State:
        if len(self) == 0:
            raise InputError("the index is empty: add photos before saving it")
        options = {name: getattr(self, name) for name in ("uri", "collection", "structure", "building", "searching")}
        return {"files": [], "options": options}

    @classmethod
    def read(cls, folder: Path, state: State) -> Self:
        index = cls(**state["options"])
        if "://" not in index.uri and not Path(index.uri).exists():
            raise InputError(f"{folder} is an index in {index.uri}, which is gone: put it back, or index the photos again")
        if not index._ask("has_collection"):
            raise InputError(f"Milvus at {index.uri} has no collection {index.collection!r} any more: index the photos again")
        fields = index._ask("describe_collection")["fields"]
        index._dim = next(int(field["params"]["dim"]) for field in fields if field["name"] == "vector")
        index._ask("load_collection")
        return index

    def _create(self, dim: int) -> None:
        from pymilvus import DataType, MilvusClient

        if self._ask("has_collection"):
            if not self.replace:
                raise InputError(
                    f"Milvus at {self.uri} has a collection {self.collection!r} already: open its index to add to it, give another "
                    "collection=NAME, or replace=true to drop it"
                )
            self._ask("drop_collection")
        schema = MilvusClient.create_schema(auto_id=True, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        schema.add_field("key", DataType.VARCHAR, max_length=32)
        schema.add_field("terms", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4096, max_length=32)
        schema.add_field("record", DataType.JSON)
        parameters = MilvusClient.prepare_index_params()
        parameters.add_index("vector", index_type=self.structure, metric_type="IP", params=self.building)
        self._ask("create_collection", schema=schema, index_params=parameters, consistency_level="Strong")
        self._dim = dim

    def _nearest(self, queries: Any, k: int, filter: str) -> tuple[Any, Any]:
        """What Milvus finds for queries [n, V]: scores and ids [n, k], -inf and -1 where it found fewer."""
        searching = dict(self.searching)
        if "ef" in searching:
            searching["ef"] = max(searching["ef"], k)
        scores, ids = np.full((len(queries), k), -np.inf, dtype=np.float32), np.full((len(queries), k), -1, dtype=np.int64)
        if k == 0 or not self._dim:
            return scores, ids
        some = max(1, min(MESSAGE // (4 * queries.shape[1]), ANSWER // k, LARGEST))
        for i in range(0, len(queries), some):
            found = self._ask(
                "search",
                data=queries[i : i + some],
                limit=k,
                filter=filter,
                anns_field="vector",
                search_params={"metric_type": "IP", "params": searching},
                output_fields=["id"],
                consistency_level="Strong",
            )
            for row, hits in enumerate(found, i):
                scores[row, : len(hits)] = [hit["distance"] for hit in hits]
                ids[row, : len(hits)] = [hit["id"] for hit in hits]
        return scores, ids

    def _count(self, filter: str) -> int:
        return int(self._ask("query", filter=filter, output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"])

    def _fields(self, asked: Iterable[str]) -> set[str]:
        """Those of the fields asked for that some photo has, and those of a few photos."""
        if not self._dim:
            return set()
        few = self._ask("query", filter="", limit=10, output_fields=["record"])
        return {field for row in few for field in row["record"]} | {field for field in asked if self._count(_holds(_term(field)))}

    def _ids(self, paths: Iterable[str]) -> dict[str, int]:
        """The ids of those paths that are there."""
        named = {_term("path", path): path for path in paths}
        found: dict[str, int] = {}
        for some in _parts(sorted(named)):
            rows = self._ask("query", filter=f"key in {json.dumps(some)}", output_fields=["id", "key"], consistency_level="Strong")
            found |= {named[row["key"]]: row["id"] for row in rows}
        return found

    def _ask(self, method: str, **given: Any) -> Any:
        """One call to Milvus about the collection."""
        client = self.client
        try:
            return getattr(client, method)(collection_name=self.collection, timeout=PATIENCE, **given)
        except Exception as error:  # pymilvus, grpc and milvus-lite each have their own
            raise InputError(
                f"Milvus at {self.uri} did not do its part ({method}: {_said(error)}); what it had taken in is kept"
            ) from error


def _entity(vector: Any, record: Record) -> dict[str, Any]:
    terms = [term for field, value in record.items() for term in (_term(field), _term(field, value))]
    return {"vector": vector, "key": _term("path", record["path"]), "terms": terms, "record": dict(record)}


def _term(field: str, *value: Value) -> str:
    """A field, or a field with its value, as a word of 32 letters that needs no quoting; numbers that are equal are the same word."""
    plain = [int(v) if isinstance(v, int | float) and math.isfinite(v) and v == int(v) else v for v in value]
    return hashlib.sha256(json.dumps([field, *plain]).encode()).hexdigest()[:32]


def _holds(*terms: str) -> str:
    if not terms:
        return "id < 0"  # none
    return f"array_contains_any(terms, {json.dumps(list(terms))})"


def _matching(where: Where) -> str:
    """Milvus's expression for photos whose fields have these values, or one of a list of them."""
    lists = {f: v if isinstance(v, Sequence) and not isinstance(v, str) else [v] for f, v in where.items()}
    return " and ".join(_holds(*(_term(field, value) for value in values)) for field, values in lists.items())


def _parts(values: list[Any]) -> Iterable[list[Any]]:
    """As many at a time as Milvus answers at once."""
    return (values[i : i + LARGEST // 2] for i in range(0, len(values), LARGEST // 2))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {getattr(error, 'message', None) or error}"
