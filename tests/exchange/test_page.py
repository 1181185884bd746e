"""Commands and programs of docs/exchange.md, run as they are printed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.exchange.hub_server import Hub
from tests.exchange.page import EXPORT, HUB, PREPARE, SEARCH, commands, python_blocks

from sbirlib import cli
from sbirlib.data.dataset import Dataset
from sbirlib.pipeline import Pipeline

SANDBOX = "import runpy, sys; runpy.run_path('find.py'); assert not {'torch', 'sbirlib'} & sys.modules.keys()"


@pytest.fixture
def folder(pipeline: Pipeline, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that the page takes for granted."""
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    monkeypatch.chdir(tmp_path)
    pipeline.export("runs/mathm/model.safetensors")
    for name, images in (("my-data/sketch", dataset.sketches), ("my-data/photo", dataset.photos), ("photos", dataset.photos)):
        for i in range(len(images)):
            file = Path(name, dataset.categories[int(images.category[i])], f"{i}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            images.read(i).save(file)
    dataset.sketches.read(9).save("sketch.png")
    return tmp_path


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", shlex.split(command))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code, command


def test_the_commands_and_a_search_by_onnxruntime_and_numpy_alone(
    folder: Path, hub: Hub, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(commands()) == 4
    for command in commands():
        run(command, monkeypatch)
    assert {file.name for file in Path("exported").iterdir()} == {"query.onnx", "gallery.onnx", "preparation.json"}
    assert Path("encoder.safetensors").is_file()
    (files,) = hub.repositories["owner/name"].commits.values()
    assert b"| mAP@all |" in files["README.md"]

    for name, block in (("prepare.py", PREPARE), ("find.py", SEARCH)):
        Path(name).write_text(python_blocks()[block])
    process = subprocess.run([sys.executable, "-c", SANDBOX], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    lines = [line.split() for line in process.stdout.splitlines()]
    hits = pipeline.index("photos", progress=False).search("sketch.png", k=5)
    assert [Path(path).resolve() for _, path in lines] == [Path(hit.path).resolve() for hit in hits]
    assert [float(score) for score, _ in lines] == pytest.approx([hit.score for hit in hits], abs=6e-4)


@pytest.mark.slow
def test_the_programs_in_python(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (evaluate,) = (command for command in commands() if command.startswith("sbirlib eval"))
    run(evaluate, monkeypatch)
    for block in (EXPORT, HUB):
        exec(python_blocks()[block], {})
    assert (folder / "exported" / "preparation.json").is_file()
    assert (folder / "pretrained" / "README.md").is_file()
