"""The command line under torchrun, as a user types it; processes that end, that are too many, that are resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import figure
from tests.processes.conftest import RECIPE
from tests.processes.launch import command, environment, run, torchrun

from sbirlib import open_index
from sbirlib.errors import InputError
from sbirlib.processes import join, launched
from sbirlib.training import checkpoint
from sbirlib.training.plan import check_shares, share


def train(count: int, data: Path, out: Path, *more: str, **options: Any) -> subprocess.CompletedProcess[str]:
    call = ["train", str(data / "recipe.toml"), "--data", str(data / "figures"), "--out", str(out), *more]
    if count > 1:
        return torchrun(count, "--no-python", "sbirlib", *call, **options)
    return run(1, "-c", "from sbirlib.cli import main; main()", *call, **options)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "1" and "2", of runs with so many processes, with what each printed in "stdout" and "stderr"."""
    root = tmp_path_factory.mktemp("trained")
    for count in (1, 2):
        process = train(count, data, root / str(count))
        assert process.returncode == 0, process.stderr
        for name in ("stdout", "stderr"):
            (root / str(count) / name).write_text(getattr(process, name))
    return root


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_command_line_trains_with_two_processes(trained: Path) -> None:
    assert "2 processes (gloo)" in (trained / "2" / "stderr").read_text()
    one, two = ((trained / str(count) / "stdout").read_text().splitlines() for count in (1, 2))
    assert len(one) == len(two), "one process prints"
    assert one[0] == two[0]
    metrics = [{line.split()[0]: float(line.split()[-1]) for line in lines if " -> " in line} for lines in (one, two)]
    assert metrics[0].keys() == metrics[1].keys() >= {"mAP@all"}
    assert metrics[1] == pytest.approx(metrics[0], abs=0.02)
    logs = [log(trained / str(count)) for count in (1, 2)]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    assert logs[1][0]["losses"] == pytest.approx(logs[0][0]["losses"], abs=1e-2)
    about = checkpoint.read_model(trained / "2" / "checkpoint.safetensors")[1]
    assert about.training is not None
    assert about.training.processes == 2
    assert (trained / "2" / "model.safetensors").is_file()


def test_evaluation_and_encoding_are_shared(trained: Path, data: Path, tmp_path: Path) -> None:
    model, out = str(trained / "1" / "model.safetensors"), [tmp_path / f"{count}.json" for count in (1, 2)]
    for count, file in zip((1, 2), out, strict=True):
        start = ["--no-python", "sbirlib"] if count > 1 else ["-c", "from sbirlib.cli import main; main()"]
        process = run(count, *start, "eval", model, "--data", str(data / "figures"), "--out", str(file))
        assert process.returncode == 0, process.stderr
    one, two = (json.loads(file.read_text()) for file in out)
    assert one["metrics"] == two["metrics"], "the batches are the same, so no digit differs"
    photos, index = str(data / "figures" / "photo"), str(tmp_path / "index")
    process = run(2, "--no-python", "sbirlib", "index", model, photos, "--out", index)
    assert process.returncode == 0, process.stderr
    assert len(open_index(index)) == 36
    process = run(2, "--no-python", "sbirlib", "add", photos, "--index", index)
    assert process.returncode != 0
    assert process.stderr.splitlines().count("sbirlib: add works in one process: run it without torchrun") == 1


WRITES = """
import sys
from sbirlib import cli, processes

class Writes:
    def __init__(self): self.texts = []
    def write(self, text): self.texts += [text] if text else []
    def flush(self): pass

sys.stderr = writes = Writes()
cli._log_on_stderr()
cli.logging.getLogger("sbirlib").info("a message")
processes.fail(ValueError(), "an error")
print(writes.texts)
"""


def test_a_line_is_one_write_which_no_other_process_splits() -> None:
    process = run(1, "-c", WRITES)
    assert process.stdout.strip() == r"['sbirlib: a message\n', 'an error\n']", process.stderr


@pytest.mark.parametrize(
    ("count", "settings", "message"),
    [
        (2, ["--set", "sampler.categories=1"], "of 2 processes some would have sketches alone, or photos alone"),
        pytest.param(3, [], "a batch of 8 images cannot be shared evenly by 3 processes", marks=pytest.mark.slow),
        pytest.param(2, ["--set", "sampler.categores=2"], "sampler.categores", marks=pytest.mark.slow),
    ],
)
def test_too_many_processes_are_refused_before_data_is_read(
    data: Path, tmp_path: Path, count: int, settings: list[str], message: str
) -> None:
    process = train(count, data, tmp_path / "run", *settings)
    assert process.returncode != 0
    lines = [line for line in process.stderr.splitlines() if line.startswith("sbirlib: ") and "processes (gloo)" not in line]
    assert len(lines) == 1, lines
    assert message in process.stderr
    assert not (tmp_path / "run").exists()


def test_shares_of_a_last_batch_need_not_have_the_same_chunks(data: Path, tmp_path: Path) -> None:
    """Of 65 images in batches of 22 the last has 21: 11 and 10, which are two chunks of 10 and one; batch norms wait for both processes."""
    shutil.copytree(data / "figures", tmp_path / "figures")
    for c in range(6):
        figure(c, 9, False).save(tmp_path / "figures" / "photo" / f"class{c}" / "9.png")
    shuffled = RECIPE.replace("{ categories = 2, per_modality = 2 }", '{ name = "shuffled", size = 22 }')
    (tmp_path / "recipe.toml").write_text(shuffled.replace("steps = 6", "steps = 4, chunk = 10"))
    process = train(2, tmp_path, tmp_path / "run", timeout=100)
    assert process.returncode == 0, process.stderr


LEFT = """
from pathlib import Path
from sbirlib import processes

processes.join()
import torch.distributed.nn.functional
processes.mean(torch.ones(3))
processes.leave_together()
names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
assert not [name for name in names if "gloo" in name], names
"""


def test_no_thread_of_the_group_runs_once_it_is_left() -> None:
    """A thread of gloo that frees a tensor while the interpreter ends aborts the process."""
    process = run(2, "--no-python", sys.executable, "-c", LEFT)
    assert process.returncode == 0, process.stderr


LOCAL = """
import sys
from sbirlib import build, folder, split
from sbirlib.processes import everyone, rank

def sums():
    return [float(value.double().sum()) for value in pipeline.model.buffers()]

pipeline = build(sys.argv[1], **{"phases.0.batch_norm": "local", "validate": {"every": 2}})
differ = []
pipeline.fit(
    split(folder(sys.argv[2]), "seed:0"),
    progress=False,
    on_step=lambda event: differ.append(sums() != everyone(sums())[0]),
)
same = everyone(sums())
steps = [i for i, each in enumerate(everyone(differ)[1], 1) if each]
if rank() == 0:
    print("differ in steps", steps, "alike at the end", same[0] == same[1])
"""


def test_norms_of_each_process_are_those_of_the_first_where_the_model_is_read(data: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(LOCAL)
    process = run(2, str(tmp_path / "script.py"), str(data / "recipe.toml"), str(data / "figures"))
    assert process.returncode == 0, process.stderr
    assert "differ in steps [1, 3, 5] alike at the end True" in process.stdout, "validation is every second step"


DIES = """
import os, sys
from sbirlib import build, folder, split
from sbirlib.errors import InputError
from sbirlib.processes import rank

def fail(event):
    if event.done == 3 and rank() == 1:
        raise InputError("the disk of process 1 is gone") if sys.argv[3] == "raises" else os._exit(9)

build(sys.argv[1]).fit(folder(sys.argv[2]), on_step=fail, progress=False)
"""


@pytest.mark.parametrize("how", ["raises", pytest.param("exits", marks=pytest.mark.slow)])
def test_a_process_that_ends_ends_the_others_at_once(data: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "script.py").write_text(DIES)
    start = time.monotonic()
    process = torchrun(2, str(tmp_path / "script.py"), str(data / "recipe.toml"), str(data / "figures"), how)
    assert process.returncode != 0
    assert time.monotonic() - start < 60
    assert ("the disk of process 1 is gone" in process.stderr) == (how == "raises")


def killed(data: Path, out: Path, count: int) -> None:
    """A run of 40 steps, whose processes are killed after some checkpoint."""
    call = ["train", str(data / "recipe.toml"), "--data", str(data / "figures"), "--out", str(out), *LONG]
    line = command(count, "--no-python", "sbirlib", *call)
    with subprocess.Popen(line, env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while not (out / "checkpoint.safetensors").is_file():
            assert process.poll() is None
            time.sleep(0.05)
        subprocess.run(["pkill", "-KILL", "-f", str(out)], check=True)  # torchrun's children are sessions of their own
        os.killpg(process.pid, signal.SIGKILL)


LONG = ("--set", "phases.0.steps=40", "--save-every", "1")


@pytest.mark.slow
def test_two_processes_resume_bit_identical_and_one_goes_on(data: Path, tmp_path: Path) -> None:
    whole = train(2, data, tmp_path / "whole", *LONG)
    assert whole.returncode == 0, whole.stderr
    killed(data, tmp_path / "killed", 2)
    again = train(2, data, tmp_path / "killed", *LONG, "--resume")
    assert again.returncode == 0, again.stderr
    expected, own = (checkpoint.read(tmp_path / name / "checkpoint.safetensors")[0] for name in ("whole", "killed"))
    assert expected.keys() == own.keys()
    assert [name for name in expected if not torch.equal(expected[name], own[name])] == []
    killed(data, tmp_path / "alone", 2)
    alone = train(1, data, tmp_path / "alone", *LONG, "--resume")
    assert alone.returncode == 0, alone.stderr
    assert "is of 2 processes, and goes on with 1" in alone.stderr
    places = [[(line["step"], line["epoch"]) for line in log(tmp_path / name) if "losses" in line][-3:] for name in ("whole", "alone")]
    assert places[0] == places[1]


def test_a_launcher_that_is_not_whole_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match="WORLD_SIZE=2 asks for a group of processes, without MASTER_ADDR and MASTER_PORT"):
        join()
    for rank in ("2", "-1", "x"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(InputError, match="expected a rank from 0 to WORLD_SIZE - 1"):
            launched()


def test_shares_are_consecutive_and_differ_by_one_image_at_most() -> None:
    for count in range(1, 30):
        for processes in range(1, 6):
            shares = [share(list(range(count)), number, processes) for number in range(processes)]
            assert [i for part in shares for i in part] == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_last_batch_of_an_epoch_may_be_smaller() -> None:
    modality = torch.tensor([0, 1] * 10).numpy()
    check_shares([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]], modality, 2)
    with pytest.raises(InputError, match="the last batch of an epoch has 1 images for 2 processes"):
        check_shares([[0, 1, 2, 3], [4]], modality, 2)
    with pytest.raises(InputError, match="a batch of 3 images cannot be shared evenly by 2 processes"):
        check_shares([[0, 1, 2], [3, 4, 5, 6]], modality, 2)
