"""Encoders as ONNX files, compared with torch before they are written."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.export import ExportedProgram

from sbirlib.errors import InputError
from sbirlib.exchange.preparation import steps
from sbirlib.exchange.tracing import MODALITY, Side, same_sides, trace
from sbirlib.files import atomic_write
from sbirlib.interfaces import Batch, Encoder
from sbirlib.pipeline import Pipeline
from sbirlib.plugins import used_by
from sbirlib.progress import track

FORMAT = 1
INPUT = "images"
DOCUMENT = "preparation.json"
SIDES: tuple[Side, Side] = ("query", "gallery")
OUTPUTS: dict[str, tuple[Side, ...]] = {"encoder.onnx": ("query", "gallery"), "query.onnx": ("query",), "gallery.onnx": ("gallery",)}
INK = 0.1  # share of the black pixels of a random drawing
TOLERANCE = 1e-4  # largest difference of a vector's entries, between onnxruntime and torch
BATCHES = (1, 2, 5)  # images at once in the comparison
SCORE = (
    "the score of a photo is the largest of the S inner products of its vector [V] with those of the query [S, V]; larger is more similar"
)
TROUBLE = (
    "an encoder's graph may not depend on the values of images, by `if`, `int()` or a mask: write such steps for all pixels (torch.where), "
    "or, where only export needs it, under `if torch.compiler.is_exporting():`"
)


@dataclass(frozen=True)
class Exported:
    """The files of an export, with the largest difference of an entry between onnxruntime's vectors and torch's."""

    files: list[Path]
    difference: float


def export_onnx(pipeline: Pipeline, folder: str | Path) -> Exported:
    """Write the encoder of queries and that of photos as ONNX files into a folder, with `preparation.json`, which says how to use them.

    Each takes images float32 [N, 3, S, S] in [0, 1] and gives vectors, [N, S_q, V] of queries and [N, V] of photos, as `query_vectors` and
    `gallery_vectors` do; where these are the same, one file gives both. Vectors of random images by onnxruntime are compared with torch's before
    anything is written. Raises InputError without the extra `onnx`, for an encoder that has no graph, and for a difference over 1e-4.

    >>> export_onnx(pipeline, "exported").difference < 1e-4
    True
    """
    runtime = _onnxruntime()
    pipeline.model.load_weights()
    encoder = copy.deepcopy(pipeline.encoder).cpu().eval()
    size = pipeline.transform.size
    contents, sessions = dict[str, bytes](), dict[Side, Any]()
    programs = _programs(encoder, size)
    for name, program in track(programs.items(), total=len(programs), label="converting to ONNX"):
        contents[name] = _converted(program, OUTPUTS[name], encoder)
        session = runtime.InferenceSession(contents[name], providers=["CPUExecutionProvider"])
        sessions |= dict.fromkeys(OUTPUTS[name], session)
    difference = max(_difference(encoder, side, session, size) for side, session in sessions.items())
    if not difference <= TOLERANCE:
        raise InputError(
            f"the ONNX files give vectors that differ from torch's by {difference:.2g}, more than {TOLERANCE}: nothing was written"
        )
    document = _document(pipeline, contents, sessions, difference)
    return Exported(_write(Path(folder), contents, document), difference)


def _onnxruntime() -> Any:
    """onnxruntime, where all libraries of the extra `onnx` are installed."""
    try:
        for name in ("onnx", "onnxscript"):
            import_module(name)
        return import_module("onnxruntime")
    except ImportError as error:
        raise InputError(f"an export to ONNX needs the extra `onnx` ({error}): pip install 'sbirlib[onnx]'") from error


def _programs(encoder: Encoder, size: int) -> dict[str, ExportedProgram]:
    """The graph of each file, by its name: one for both sides where they are the same."""

    def traced(sides: Side | Literal["both"]) -> ExportedProgram:
        with _in_words(encoder):
            return trace(encoder, sides, size)

    query, gallery = (traced(side) for side in track(SIDES, total=len(SIDES), label="tracing the encoder"))
    return {"encoder.onnx": traced("both")} if same_sides(query, gallery) else {"query.onnx": query, "gallery.onnx": gallery}


def _converted(program: ExportedProgram, outputs: Sequence[str], encoder: Encoder) -> bytes:
    """A graph as the content of an ONNX file."""
    with _in_words(encoder):
        model = torch.onnx.export(program, (), input_names=[INPUT], output_names=outputs, dynamic_shapes={INPUT: {0: "N"}}, verbose=False)
        assert model is not None
        content: bytes = model.model_proto.SerializeToString()
    return content


@contextlib.contextmanager
def _in_words(encoder: Encoder) -> Iterator[None]:
    """Any failure of torch's exporter, of any class, as one InputError; its own reports, of thousands of lines, are not printed."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise InputError(f"{type(encoder).__name__} has no ONNX graph ({type(error).__name__}: {reason}): {TROUBLE}") from error


def _difference(encoder: Encoder, side: Side, session: Any, size: int) -> float:
    """The largest difference of an entry between onnxruntime's vectors of random images and torch's; infinite where one is no number."""
    random, worst = np.random.default_rng(0), 0.0
    for count in BATCHES:
        images = random.random((count, 3, size, size), np.float32)
        images[::2] = images[::2].mean(1, keepdims=True) > INK  # a drawing: lines on white
        labels = [torch.full((count,), value) for value in (MODALITY[side], -1, -1)]
        with torch.inference_mode():
            batch = Batch(torch.from_numpy(images), *labels)
            expected = (encoder.query_vectors(batch) if side == "query" else encoder.gallery_vectors(batch)).numpy()
        (vectors,) = session.run([side], {INPUT: images})
        if vectors.shape != expected.shape or not np.isfinite(vectors).all():
            return float("inf")
        worst = max(worst, float(np.abs(vectors - expected).max()))
    return worst


def _document(pipeline: Pipeline, contents: Mapping[str, bytes], sessions: Mapping[Side, Any], difference: float) -> dict[str, Any]:
    """The content of `preparation.json`."""
    size = pipeline.transform.size
    files = {side: name for name in contents for side in OUTPUTS[name]}
    sides: dict[str, Any] = {
        side: {
            "file": files[side],
            "output": side,
            "shape": next(output.shape for output in session.get_outputs() if output.name == side),
            "image": steps(pipeline.transform, MODALITY[side]),
        }
        for side, session in sessions.items()
    }
    return {
        "format": FORMAT,
        "recipe": pipeline.recipe.tables(),
        "recipe_digest": pipeline.recipe.digest,
        "distributions": used_by(pipeline.recipe),
        "torch": torch.__version__,
        "encoder": pipeline.encoder_digest(),
        "input": {"name": INPUT, "type": "float32", "shape": ["N", 3, size, size], "range": [0, 1], "channels": "RGB"},
        **sides,
        "score": SCORE,
        "transform": pipeline.recipe.transform.table(),
        "files": {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in contents.items()},
        "difference": difference,
    }


def _write(folder: Path, contents: Mapping[str, bytes], document: Mapping[str, Any]) -> list[Path]:
    """Write the files, the document last, and remove those of an earlier export that this one does not have."""
    for name, content in contents.items():
        with atomic_write(folder / name) as partial:
            partial.write_bytes(content)
    with atomic_write(folder / DOCUMENT) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name in OUTPUTS.keys() - contents.keys():
        (folder / name).unlink(missing_ok=True)
    return [folder / name for name in (*contents, DOCUMENT)]
