"""Pipelines to and from a Hub on this machine."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants
from tests.exchange.hub_server import TOKEN, Hub

from sbirlib import build, cli, load
from sbirlib import hub as hub_of_models
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.exchange.card import model_card
from sbirlib.exchange.hub import from_pretrained, push_to_hub, save_pretrained
from sbirlib.hub import hub_file
from sbirlib.pipeline import Pipeline
from sbirlib.training.description import Chosen, Data, Description

NAME = "someone/sketches"


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """An evaluation as `sbirlib eval --out` writes it."""
    lines = [
        {"evaluator": "category", "metric": "mAP@all", "value": 0.51234, "definition": "a | b", "interval": [0.4, 0.6], "left_out": 2},
        {"evaluator": "category", "metric": "Prec@100", "value": 0.25, "definition": "", "interval": None, "left_out": 0},
    ]
    about = {"checkpoint": "model.safetensors", "data": "figures", "split": "seed:0", "digest": "ab" * 32}
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({**about, "metrics": {"mAP@all": 0.51234}, "lines": lines, "classes": {}}))
    return path


def test_a_folder_gives_the_same_pipeline_back(pipeline: Pipeline, tmp_path: Path) -> None:
    assert [file.name for file in save_pretrained(pipeline, tmp_path / "saved")] == ["model.safetensors", "README.md"]
    for source in (tmp_path / "saved", tmp_path / "saved" / "model.safetensors"):
        assert from_pretrained(source).encoder_digest() == pipeline.encoder_digest()


def test_the_card_has_the_record(pipeline: Pipeline, evaluation: Path, tmp_path: Path) -> None:
    _, readme = save_pretrained(pipeline, tmp_path / "saved", repository=NAME, licence="mit", evaluation=evaluation)
    text = readme.read_text()
    data: Any = ModelCard(text).data
    assert (data.license, data.library_name) == ("mit", "sbirlib")
    assert {"sketch-based-image-retrieval", "mathm"} <= set(data.tags)
    assert pipeline.recipe.digest in text
    assert pipeline.encoder_digest() in text
    assert f'load("hf:{NAME}")' in text
    assert "| mAP@all | 0.5123 | 0.4000 to 0.6000 | 2 | a \\| b |" in text
    assert "| Prec@100 | 0.2500 |  | 0 |  |" in text
    assert f"On `figures`, split `seed:0` (SHA-256 `{'ab' * 32}`)" in text
    recipe = re.findall(r"```json\n(.*?)\n```", text, flags=re.DOTALL)[0]
    assert json.loads(recipe) == pipeline.recipe.tables()


def test_the_card_names_the_training_data_that_a_file_describes(pipeline: Pipeline) -> None:
    about = Description(recipe=pipeline.recipe.tables(), categories=["a", "b"], instances=2, exported=True)
    assert "| training data | not recorded in the model's file |" in model_card(pipeline.recipe, about, encoder="cd" * 32)
    trained = about.model_copy(
        update={"data": Data(name="my`set", split="seed:1", digest="ef" * 32), "chosen": Chosen(step=70, metric="mAP@all", value=0.5)}
    )
    text = model_card(pipeline.recipe, trained, encoder="cd" * 32)
    rows = ("training data | my'set", "split | seed:1", f"SHA-256 of data and split | {'ef' * 32}", "training categories | 2")
    assert [row for row in rows if f"| {row} |" not in text] == []
    assert "| weights | of step 70, by validation: mAP@all 0.5000 |" in text
    assert f"| SHA-256 of the encoder | {'cd' * 32} |" in text


def test_an_evaluation_of_another_form_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"data": "figures"}')
    with pytest.raises(InputError, match=r"other\.json \(expected the file that `sbirlib eval .*split: Field required"):
        save_pretrained(pipeline, tmp_path / "saved", evaluation=tmp_path / "other.json")
    assert not (tmp_path / "saved").exists()


def test_a_pushed_pipeline_comes_back(hub: Hub, pipeline: Pipeline) -> None:
    commit = push_to_hub(pipeline, NAME, licence="apache-2.0")
    repository = hub.repositories[NAME]
    (oid,) = repository.commits
    assert commit == f"{hub.address}/{NAME}/commit/{oid}"
    assert set(repository.commits[oid]) == {"model.safetensors", "README.md"}
    hub.requests.clear()
    for name in (NAME, f"hf:{NAME}", f"{NAME}@main", f"{NAME}@{oid}"):
        assert from_pretrained(name).encoder_digest() == pipeline.encoder_digest()
    assert {line.partition(" ")[2].rpartition("/")[2] for line in hub.requests} == {"model.safetensors"}
    assert sum(line.startswith("GET") for line in hub.requests) == 1  # then the cache has it


def test_whatever_takes_a_model_takes_a_name_of_the_hub(hub: Hub, pipeline: Pipeline, dataset: Dataset) -> None:
    commit = push_to_hub(pipeline, NAME).rpartition("/")[2]
    for name in (f"hf:{NAME}", Path(f"hf:{NAME}"), f"hf:{NAME}@{commit}"):
        assert load(name).encoder_digest() == pipeline.encoder_digest()
    fresh = build(pipeline.recipe.tables() | {"seed": 1})
    assert fresh.encoder_digest() != pipeline.encoder_digest()
    assert fresh.warm_start(f"hf:{NAME}").encoder_digest() == pipeline.encoder_digest()


def test_the_card_of_a_trained_pipeline_names_its_data(pipeline: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    short = build(
        "mathm", encoder=pipeline.encoder, transform={"size": 32}, sampler={"categories": 4, "per_modality": 2}, phases=[{"steps": 1}]
    )
    short.fit(dataset, device="cpu", progress=False, tensorboard=False)
    _, readme = save_pretrained(short, tmp_path / "saved")
    assert f"| training data | {dataset.name} |" in readme.read_text()
    assert f"| SHA-256 of data and split | {dataset.digest} |" in readme.read_text()


def test_a_revision_is_its_own(hub: Hub, pipeline: Pipeline) -> None:
    first = push_to_hub(pipeline, NAME).rpartition("/")[2]
    other = from_pretrained(NAME)
    next(other.encoder.parameters()).data.add_(1)
    push_to_hub(other, NAME)
    assert from_pretrained(f"{NAME}@{first}").encoder_digest() == pipeline.encoder_digest()
    assert from_pretrained(NAME).encoder_digest() == other.encoder_digest() != pipeline.encoder_digest()


def test_a_damaged_download_is_refused(hub: Hub, pipeline: Pipeline) -> None:
    push_to_hub(pipeline, NAME)
    (files,) = hub.repositories[NAME].commits.values()
    content = bytearray(files["model.safetensors"])
    content[-1] ^= 1
    files["model.safetensors"] = bytes(content)
    with pytest.raises(InputError, match="its content is not that of its digest"):
        from_pretrained(NAME)


def test_private_is_private(hub: Hub, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(pipeline, "someone/public")
    with pytest.raises(InputError, match="someone/public is public, and the model is to be private"):
        push_to_hub(pipeline, "someone/public", private=True)
    assert len(hub.repositories["someone/public"].commits) == 1
    push_to_hub(pipeline, NAME, private=True)
    assert hub.repositories[NAME].private
    assert hub_file(f"hf:{NAME}").is_file()
    monkeypatch.setenv("HF_TOKEN", "hf_of_someone_else")
    with pytest.raises(InputError, match=r"cannot be had from .*a private repository needs a token"):
        hub_file(f"hf:{NAME}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:nobody/nothing", "hf:nobody/nothing cannot be had from .*RepositoryNotFoundError.*check the name"),
        (f"hf:{NAME}@v2", "cannot be had from .*RevisionNotFoundError"),
        ("hf:sketches", "'sketches' names no repository of the Hub: expected owner/name"),
        (f"hf:{NAME}@", "ends in @: name a revision"),
        ("hf:../../etc/passwd", "names no repository"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(hub: Hub, pipeline: Pipeline, name: str, message: str) -> None:
    push_to_hub(pipeline, NAME)
    with pytest.raises(InputError, match=message):
        hub_file(name)


def test_a_repository_without_a_model_is_refused(hub: Hub, pipeline: Pipeline) -> None:
    push_to_hub(pipeline, NAME)
    (files,) = hub.repositories[NAME].commits.values()
    del files["model.safetensors"]
    with pytest.raises(InputError, match="EntryNotFound"):
        hub_file(f"hf:{NAME}")


def test_the_cache_serves_where_the_hub_does_not(
    hub: Hub, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    push_to_hub(pipeline, NAME)
    path = hub_file(f"hf:{NAME}")
    hub.status = 503
    with caplog.at_level(logging.INFO, "sbirlib"):
        assert hub_file(f"hf:{NAME}") == path
    assert "its copy in the cache is used" in caplog.text
    hub.status = None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert hub_file(f"hf:{NAME}") == path
    assert hub.requests == []
    with pytest.raises(InputError, match=r"OfflineModeIsEnabled.*hf download someone/other model\.safetensors"):
        hub_file("hf:someone/other")


def test_a_hub_that_fails_is_an_error_within_seconds(hub: Hub, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    hub.status = 503
    with pytest.raises(InputError, match=r"503.*fetch it where there is a network"):
        hub_file(f"hf:{NAME}")
    with pytest.raises(InputError, match=f"{NAME} could not be pushed to {hub.address} .*503"):
        push_to_hub(pipeline, NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens
    with pytest.raises(InputError, match="could not be pushed to http://127.0.0.1:9 .*ConnectError"):
        push_to_hub(pipeline, NAME)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(("token", "licence", "message"), [("hf_wrong", None, "401"), (TOKEN, "my-own", "no licence my-own")])
def test_a_refusal_to_push_says_why(
    hub: Hub, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, token: str, licence: str | None, message: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=f"could not be pushed .*{message}") as refusal:
        push_to_hub(pipeline, NAME, licence=licence)
    assert token not in str(refusal.value)


def test_a_name_of_another_form_is_no_repository(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match="'a b/c' names no repository of the Hub: expected owner/name"):
        push_to_hub(pipeline, "a b/c")


def test_paths_are_not_names() -> None:
    assert hub_of_models.is_hub_name(Path("hf:someone/sketches"))
    assert not hub_of_models.is_hub_name("runs/hf:x/model.safetensors")


@pytest.mark.slow
def test_the_command_pushes_and_environment_variables_lead(hub: Hub, pipeline: Pipeline, evaluation: Path, tmp_path: Path) -> None:
    """In a process of its own, which reads HF_ENDPOINT, HF_HOME and HF_TOKEN itself."""
    pipeline.export(tmp_path / "model.safetensors")
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", "from sbirlib.cli import main; main()", "push", str(tmp_path / "model.safetensors"), NAME, "--private"]
    command += ["--licence", "mit", "--evaluation", str(evaluation)]
    pushed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert pushed.returncode == 0, pushed.stderr
    (oid,) = hub.repositories[NAME].commits
    assert pushed.stdout == f"{hub.address}/{NAME}/commit/{oid}\nload it: sbirlib index hf:{NAME} PHOTOS --out INDEX\n"
    program = f"from sbirlib.exchange.hub import from_pretrained\nprint(from_pretrained('hf:{NAME}').encoder_digest())"
    loaded = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert loaded.stdout == f"{pipeline.encoder_digest()}\n", loaded.stderr
    assert list((tmp_path / "home" / "hub").glob("models--someone--sketches/snapshots/*/model.safetensors"))


def test_the_command_refuses_in_one_line(
    hub: Hub, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.export(tmp_path / "model.safetensors")
    monkeypatch.setattr("sys.argv", ["sbirlib", "push", str(tmp_path / "model.safetensors"), "sketches"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "names no repository" in capsys.readouterr().err.splitlines()[-1]
