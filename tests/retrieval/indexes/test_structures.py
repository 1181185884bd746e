"""Structures of the approximate indexes as arrays: the same results as FAISS's own files, and every forgery refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from tests.retrieval.indexes.photos import filled, random, restamp

from sbirlib import sealed
from sbirlib.errors import InputError
from sbirlib.retrieval.indexes.approximate import Approximate
from sbirlib.retrieval.indexes.base import read_index
from sbirlib.retrieval.indexes.hnsw import Hnsw
from sbirlib.retrieval.indexes.itq import Itq
from sbirlib.retrieval.indexes.ivfpq import IvfPq

ROWS, DIM = 3000, 16
KINDS: dict[str, Callable[[], Approximate]] = {
    "hnsw": lambda: Hnsw(M=4, exhaustive=100, efSearch=20),
    "ivfpq": lambda: IvfPq(M=3, exhaustive=300, nlist=20, nprobe=3),  # three subquantizers of 16 dimensions: padded to 18
    "itq": lambda: Itq(bits=16, exhaustive=100, nlist=20, nprobe=3),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def indexes() -> dict[str, Approximate]:
    return {kind: filled(make(), random(ROWS, DIM)) for kind, make in KINDS.items()}  # type: ignore[misc]


def reread(structure: Any) -> Any:
    """A structure as FAISS's own serialisation gives it back."""
    if isinstance(structure, faiss.Index):
        return faiss.deserialize_index(faiss.serialize_index(structure))
    return type(structure)(structure.itq, faiss.deserialize_index_binary(faiss.serialize_index_binary(structure.index)))


@every_kind
def test_a_structure_finds_what_faisss_own_file_finds(kind: str, indexes: dict[str, Approximate], tmp_path: Path) -> None:
    index, queries = indexes[kind], random(200, DIM, seed=1).numpy()
    index.save(tmp_path)
    opened = read_index(tmp_path)
    assert isinstance(opened, Approximate)
    reference = KINDS[kind]()
    vars(reference).update(vars(index) | {"structure": reread(index.structure)})
    for allowed in (None, np.arange(ROWS) % 3 > 0):
        assert np.array_equal(opened.candidates(queries, 50, allowed), reference.candidates(queries, 50, allowed))
    more = random(40, DIM, seed=2)  # later additions go to the same places
    for one in (opened, reference):
        one.add_rows(more.numpy())
    queries = more.numpy()
    assert np.array_equal(
        opened.candidates(queries, 5, np.ones(ROWS + 40, dtype=np.bool_)),
        reference.candidates(queries, 5, np.ones(ROWS + 40, dtype=np.bool_)),
    )


def _first(array: Any, value: float) -> Any:
    changed = array.copy()
    changed.reshape(-1)[0] = value
    return changed


FORGERIES: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], object]]] = {
    "an array missing": (("hnsw", "ivfpq", "itq"), lambda a: a.pop("codes")),
    "an array too many": (("hnsw", "ivfpq", "itq"), lambda a: a.update(more=a["codes"])),
    "codes cut short": (("hnsw", "ivfpq", "itq"), lambda a: a.update(codes=a["codes"][:-1])),
    "codes of another length": (("hnsw", "ivfpq", "itq"), lambda a: a.update(codes=a["codes"][:, :-1].copy())),
    "codes of another type": (("hnsw", "ivfpq", "itq"), lambda a: a.update(codes=a["codes"].astype(np.int64))),
    "an id out of range": (("ivfpq", "itq"), lambda a: a.update(ids=_first(a["ids"], ROWS))),
    "an id below zero": (("ivfpq", "itq"), lambda a: a.update(ids=_first(a["ids"], -1))),
    "an id twice": (("ivfpq", "itq"), lambda a: a.update(ids=_first(a["ids"], a["ids"][1]))),
    "a list longer than all": (("ivfpq", "itq"), lambda a: a.update(sizes=_first(a["sizes"], 2**62))),
    "a list below zero": (("ivfpq", "itq"), lambda a: a.update(sizes=_first(a["sizes"], -1))),
    "fewer lists": (("ivfpq", "itq"), lambda a: a.update(sizes=a["sizes"][1:])),
    "NaN": (("ivfpq", "itq"), lambda a: a.update(rotation=_first(a["rotation"], np.nan))),
    "rotation of another length": (("ivfpq", "itq"), lambda a: a.update(rotation=a["rotation"][:-1])),
    "a link to no row": (("hnsw",), lambda a: a.update(neighbours=_first(a["neighbours"], ROWS))),
    "a link below -1": (("hnsw",), lambda a: a.update(neighbours=_first(a["neighbours"], -2))),
    "links cut short": (("hnsw",), lambda a: a.update(neighbours=a["neighbours"][:-1])),
    "a level of nothing": (("hnsw",), lambda a: a.update(levels=_first(a["levels"], 0))),
    "a level above those of the graph": (("hnsw",), lambda a: a.update(levels=_first(a["levels"], 31))),
    "a level above all": (("hnsw",), lambda a: a.update(levels=_first(a["levels"], 2**31 - 1))),
    "an entry that is no row": (("hnsw",), lambda a: a.update(entry=_first(a["entry"], ROWS))),
    "an entry below its level": (("hnsw",), lambda a: a.update(entry=_first(a["entry"], int((a["levels"] == 1).argmax())))),
    "a highest level that no row has": (("hnsw",), lambda a: a.update(entry=np.array([a["entry"][0], 30]))),
}


@pytest.mark.parametrize(("kind", "forgery"), [(kind, name) for name, (kinds, _) in FORGERIES.items() for kind in kinds])
def test_a_forged_structure_is_refused(kind: str, forgery: str, indexes: dict[str, Approximate]) -> None:
    arrays = {name: array.copy() for name, array in indexes[kind].arrays().items()}
    indexes[kind].restored(arrays)
    FORGERIES[forgery][1](arrays)
    with pytest.raises(InputError):
        indexes[kind].restored(arrays)


def test_a_link_to_a_row_that_is_not_on_its_level_is_refused(indexes: dict[str, Approximate]) -> None:
    """FAISS would read the links of the row behind it, or beyond the end."""
    arrays = {name: array.copy() for name, array in indexes["hnsw"].arrays().items()}
    levels = arrays["levels"]
    graph = indexes["hnsw"].structure.hnsw
    node, ground = int((levels > 1).argmax()), int((levels == 1).argmax())
    place = int(sum(graph.cum_nb_neighbors(int(level)) for level in levels[:node])) + graph.cum_nb_neighbors(1)
    arrays["neighbours"][place] = ground
    with pytest.raises(InputError, match="a link of its graph on level 1 leads to a row that is not there"):
        indexes["hnsw"].restored(arrays)


@every_kind
def test_a_forged_structure_in_a_file_is_named(kind: str, indexes: dict[str, Approximate], tmp_path: Path) -> None:
    indexes[kind].save(tmp_path)
    path = next(tmp_path.glob(f"{kind}-*"))
    tensors, _ = sealed.read(path)
    for damaged in ({**tensors, "codes": tensors["codes"].bfloat16()}, {**tensors, "codes": tensors["codes"][:-1].clone()}):
        sealed.write(path, {name: tensor.contiguous() for name, tensor in damaged.items()}, {})
        with pytest.raises(InputError, match=rf"{path.name}' is damaged"):
            read_index(tmp_path)
        restamp(tmp_path)
        with pytest.raises(InputError, match=rf"{path.name}' is damaged: (codes is|.*ScalarType)"):
            read_index(tmp_path)


def test_no_file_is_read_by_faiss() -> None:
    """FAISS's reader trusts every file."""
    ours = Path(__file__).parents[3] / "src"
    for path in ours.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not any(name in text for name in ("read_index(str", "faiss.read_index", "deserialize_index", "read_VectorTransform")), path
