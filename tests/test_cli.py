"""Commands of the command line, run as a user types them."""

import io
import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.terminal import run

from sbirlib import build
from sbirlib.cli import options
from sbirlib.data.dataset import Dataset
from sbirlib.data.images import open_image

SETTINGS = [
    "encoder.backbone=resnet10t",
    "encoder.pretrained=false",
    "encoder.dim=8",
    "transform.size=32",
    "sampler.categories=2",
    "sampler.per_modality=2",
    "phases.0.steps=2",
    "phases.0.parameters=[]",
]


@pytest.fixture
def tree(dataset: Dataset, tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for i in range(len(dataset)):
        modality = "sketch" if dataset.modality[i] == 0 else "photo"
        folder = root / modality / dataset.categories[dataset.category[i]]
        folder.mkdir(parents=True, exist_ok=True)
        dataset.read(i).save(folder / f"{dataset.instance[i]}.png")
    return root


def test_from_training_to_searching(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index, picture = tmp_path / "index", tmp_path / "found.png"
    data = ["--data", str(tree), "--split", "class4,class5"]
    model = _train_and_warm_start(data, tmp_path, monkeypatch, capsys)
    assert run(monkeypatch, "eval", model, *data, "--out", str(tmp_path / "metrics.json"), "--worst", str(tmp_path / "worst.png")) == 0
    assert (tmp_path / "worst.png").is_file()
    assert set(json.loads((tmp_path / "metrics.json").read_text())["metrics"]) == {"mAP@all", "class_mAP@all", "Prec@100", "class_Prec@100"}
    assert run(monkeypatch, "encode", model, str(tree), "--out", str(tmp_path / "vectors")) == 0
    assert run(monkeypatch, "index", model, str(tmp_path / "vectors"), "--out", str(tmp_path / "other"), "--kind", "hnsw") == 0
    assert run(monkeypatch, "index", model, str(tree), "--out", str(index)) == 0
    photo = str(tree / "photo" / "class0" / "0.png")
    assert run(monkeypatch, "remove", photo, "--index", str(index)) == 0
    fields = tmp_path / "fields.csv"
    fields.write_text(f"path,year\n{photo},2001\n")
    capsys.readouterr()
    assert run(monkeypatch, "add", str(tree), "--index", str(index), "--fields", str(fields)) == 0
    assert "1 photos added" in capsys.readouterr().out
    sketches = str(tree / "sketch" / "class0")
    assert run(monkeypatch, "search", sketches, "--index", str(index), "--json", "--where", "year=2001", "--where", "year=2002") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[hit["path"] for hit in answer["hits"]] for answer in answers] == [[photo]] * len(os.listdir(sketches))
    shutil.copytree(tree / "photo" / "class0", tmp_path / "numbered" / "photo" / "7")
    assert run(monkeypatch, "add", str(tmp_path / "numbered"), "--index", str(index)) == 0
    capsys.readouterr()
    assert run(monkeypatch, "search", sketches, "--index", str(index), "--json", "--where", "category=7") == 0
    assert all(json.loads(line)["hits"] for line in capsys.readouterr().out.splitlines())  # a class may be called by a number
    lines = f"{answers[0]['sketch']}\nnowhere.png\n\n".encode() + b"\xff.png\n" + answers[0]["sketch"].encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert run(monkeypatch, "search", "-", "--index", str(index), "--json", "-k", "2") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(answer.get("hits", "")) for answer in answers] == [2, 0, 0, 2]
    assert "nowhere.png" in answers[1]["error"]
    assert "the byte 0xff is no UTF-8" in answers[2]["error"]
    _damage_is_named(index, Path(model), monkeypatch, capsys)
    sketch = tree / "sketch" / "class4" / "24.png"
    _search_draws_in_the_current_folder(sketch, index, monkeypatch, capsys)
    _limits_stand_on_the_command_line(tree, model, tmp_path, monkeypatch, capsys)
    assert run(monkeypatch, "search", str(sketch), "--index", str(index), "-k", "3", "--grid", str(picture)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["1", "2", "3"]
    assert picture.is_file()


def _damage_is_named(index: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One bit flipped in each file of an index and of a run is named by `verify`; and by `search`, unless it is told not to look."""
    assert run(monkeypatch, "verify", str(index)) == 0
    assert run(monkeypatch, "verify", str(model.parent)) == 0
    for folder in (index, model.parent):
        for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json")):
            whole = path.read_bytes()
            path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
            capsys.readouterr()
            assert run(monkeypatch, "verify", str(folder)) == 1
            damaged = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged")]
            assert len(damaged) == 1
            assert str(path) in damaged[0]
            if folder == index:
                assert run(monkeypatch, "search", "x.png", "--index", str(index), "--verify") == 2
                assert path.name in capsys.readouterr().err
            path.write_bytes(whole)
    assert run(monkeypatch, "verify", "nowhere") == 2
    assert run(monkeypatch, "upgrade", str(index)) == 2
    assert "of the present format already" in capsys.readouterr().err


def _train_and_warm_start(data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Path of the trained model, from whose metric a second training starts."""
    settings = [word for s in SETTINGS for word in ("--set", s)]
    assert run(monkeypatch, "train", "mathm", *data, "--out", str(tmp_path / "run"), "--device", "cpu", *settings) == 0
    printed = capsys.readouterr().out
    assert "mAP@all" in printed
    assert "->" in printed
    assert "class4,class5" in printed
    model = str(tmp_path / "run" / "model.safetensors")
    again = ["--out", str(tmp_path / "again"), "--warm-start", f"encoder={model}"]
    assert run(monkeypatch, "train", "mathm", *data, *again, "--device", "cpu", *settings) == 0
    first, second = (re.search(r"mAP@all +([\d.]+) -> ([\d.]+)", text) for text in (printed, capsys.readouterr().out))
    assert first is not None
    assert second is not None
    assert first[2] == second[1]
    return model


def _search_draws_in_the_current_folder(
    sketch: Path, index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One dataset and one decoding a sketch; a blank sketch and a missing file are named on stderr."""
    place = index.parent / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    before = sorted(sketch.parent.iterdir())
    datasets: list[str] = []
    decodings: list[str] = []
    make = Dataset.of

    def of(name: str, **options: Any) -> Dataset:
        datasets.append(name)
        return make(name, **options)

    def decode(path: str, **options: int) -> Image.Image:
        decodings.append(path)
        return open_image(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "of", of)
        patch.setattr("sbirlib.data.images.open_image", decode)
        assert run(monkeypatch, "search", str(sketch), "--index", str(index), "-k", "3") == 0
    captured = capsys.readouterr()
    assert (len(datasets), decodings) == (1, [str(sketch)])
    assert re.fullmatch(r"sbirlib: model-\w+\.safetensors uses sbirlib-mathm [\d.]+\n", captured.err)
    assert "picture: 24-found.png" in captured.out
    assert [p.name for p in place.iterdir()] == ["24-found.png"]
    assert sorted(sketch.parent.iterdir()) == before
    Image.new("L", (30, 30), 255).save("blank.png")
    assert run(monkeypatch, "search", "blank.png", "--index", str(index), "-k", "3") == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4
    assert re.search(r"sbirlib: the sketch .*blank\.png is blank, .*\n$", captured.err)
    assert run(monkeypatch, "search", "nothere.png", "--index", str(index)) == 2
    assert "there is no file" in capsys.readouterr().err


def _limits_stand_on_the_command_line(
    tree: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = (["encode", model], ["index", model], ["add"])
    for number, words in enumerate(commands):
        target = ["--index", str(tmp_path / "index")] if words == ["add"] else ["--out", str(tmp_path / f"limited{number}")]
        assert run(monkeypatch, *words, str(tree), *target, "--max-pixels", "100") == 2
        assert re.search(r"max_pixels=100 \(--max-pixels\).*skip_bad=True \(--skip-bad\)", capsys.readouterr().err)
    assert run(monkeypatch, "encode", model, str(tree), "--out", str(tmp_path / "unlimited"), "--max-pixels", "2000000000") == 0
    capsys.readouterr()


def test_a_recipe_that_classifies_sketches_is_trained_evaluated_and_used(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe landmarks has a classifier, which its model keeps."""
    out, data = tmp_path / "run", ["--data", str(tree), "--split", "classification"]
    small = ["encoder.encoder.backbone=test_resnet", "encoder.encoder.pretrained=false", "encoder.encoder.output_stride=8"]
    small += ["encoder.filters=6", "encoder.landmarks=4", "transform.size=32", "sampler.size=4", "phases.0.steps=2"]
    settings = [word for s in small for word in ("--set", s)]
    assert run(monkeypatch, "train", "landmarks", *data, "--out", str(out), "--device", "cpu", *settings) == 0
    printed = capsys.readouterr().out
    assert re.search(r"accuracy +0\.\d+ -> 0\.\d+", printed)
    model = str(out / "model.safetensors")
    assert f"sbirlib classify {model}" in printed
    assert run(monkeypatch, "eval", model, *data, "--out", str(tmp_path / "found.json")) == 0
    classes = json.loads((tmp_path / "found.json").read_text())["classes"]["classification"]
    assert set(classes) <= {f"class{c}" for c in range(6)}
    assert all(set(metrics) == {"accuracy", "AP"} for metrics in classes.values())
    capsys.readouterr()
    assert run(monkeypatch, "classify", model, str(tree / "sketch" / "class0"), "--json", "-k", "2") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(list((tree / "sketch" / "class0").iterdir()))
    assert all(len(a["names"]) == 2 and a["names"][0]["probability"] >= a["names"][1]["probability"] for a in answers)
    both = [model, str(out / "checkpoint.safetensors")]
    assert run(monkeypatch, "ensemble", *both, *data) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["model", "weight", "accuracy", "class_accuracy", "class_AP"]
    assert [line[:2] for line in lines[2:4]] == [[name, "0.500"] for name in both]
    assert lines[2][2:] == lines[4][1:]  # two models that say the same say it together
    assert run(monkeypatch, "classify", model, answers[0]["sketch"]) == 0
    assert answers[0]["names"][0]["name"] in capsys.readouterr().out


def test_listing_and_showing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "list", "recipe", "*hm") == 0
    assert capsys.readouterr().out.split() == ["mathm"]
    assert run(monkeypatch, "list") == 0
    assert "modality_hard" in capsys.readouterr().out
    assert run(monkeypatch, "show", "mathm") == 0
    assert json.loads(capsys.readouterr().out)["encoder"]["backbone"] == "seresnet50"
    assert run(monkeypatch, "show", "balanced_triplet") == 0
    assert "eq. 9 to 13" in capsys.readouterr().out
    assert run(monkeypatch, "plugins") == 0
    assert "sbirlib-mathm" in capsys.readouterr().out


def test_versions_are_printed_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    line = capsys.readouterr().out
    assert line.startswith(f"sbirlib {metadata.version('sbirlib')}, torch ")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "mathmm"), "did you mean 'mathm'"),
        (("train", "mathmm", "--data", "synthetic"), "did you mean 'mathm'"),
        (("train", "mathm", "--data", "no-such-folder"), "no-such-folder"),
        (("train", "mathm", "--data", "synthetic", "--set", "phases"), "--set takes KEY=VALUE"),
        (("train", "mathm", "--data", "synthetic", "--warm-start", "encoder"), "--warm-start takes KEY=VALUE"),
        (("eval", "no-such-model", "--data", "synthetic"), "no-such-model"),
        (("search", "a.png", "--index", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_one_line_without_a_traceback(
    words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_settings_are_read_as_the_types_of_their_options_say() -> None:
    assert options.settings(["a.b=3", "c=[1, 2]"]) == {"a.b": "3", "c": "[1, 2]"}
    pairs = [
        "losses.balanced_triplet.weighting=False",
        "losses.balanced_triplet.margin=.001",
        "encoder.pooling=None",
        "encoder.mean=[0, 1, 1e-3]",
    ]
    pipeline = build("mathm", **options.settings([*pairs, "encoder.backbone=resnet10t", "encoder.timm_options.act_layer=relu", "miner=none",
                                                  "phases.0.weights.balanced_triplet=2"]))  # fmt: skip
    assert (
        pipeline.recipe.losses["balanced_triplet"].options | {"weighting": False, "margin": 0.001}
        == pipeline.recipe.losses["balanced_triplet"].options
    )
    assert pipeline.recipe.encoder.options["pooling"] is None
    assert pipeline.recipe.encoder.options["mean"] == [0, 1, 0.001]
    assert pipeline.recipe.encoder.options["timm_options"] == {"act_layer": "relu"}
    assert pipeline.recipe.miner is None
