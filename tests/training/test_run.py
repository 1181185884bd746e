"""Training runs: metric, exact resumption, logs, wrong input, and discriminators."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sbirlib import build, load
from sbirlib.data.dataset import Dataset
from sbirlib.errors import InputError
from sbirlib.interfaces import AdversarialLoss, Encoder, Loss, Miner, ModuleComponent, Step
from sbirlib.pipeline import Pipeline
from sbirlib.training import checkpoint
from sbirlib.training.run import Run
from sbirlib.training.steps import StepEvent


def small_pipeline(encoder: Encoder, steps: int = 8, **changes: Any) -> Pipeline:
    settings: dict[str, Any] = {
        "miner": "modality_hard",
        "losses": {"cross_entropy": {}, "balanced_triplet": {}},
        "transform": {"name": "sbir", "size": 32},
        "sampler": {"name": "balanced", "categories": 3, "per_modality": 2},
        "phases": [{"steps": steps, "optimizer": {"name": "adam", "lr": 3e-3}, "schedule": {"name": "cosine", "warmup": 2}}],
    }
    return build(encoder=encoder, **{**settings, **changes})


def state(pipeline: Pipeline) -> dict[str, Tensor]:
    return pipeline.model.tensors()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_training_raises_the_metric(encoder: Encoder, dataset: Dataset) -> None:
    pipeline = small_pipeline(encoder, 60)
    before = pipeline.evaluate(dataset)["mAP@all"]
    assert pipeline.fit(dataset, progress=False).evaluate(dataset)["mAP@all"] > before + 0.15


class Stop(Exception):
    pass


class Fuse(Loss):
    """Ends the run at a step, as a power cut would."""

    def __init__(self, *, at: int) -> None:
        super().__init__()
        self.at = at
        self.calls = 0

    def forward(self, step: Step) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise Stop
        return step.features.embedding.sum() * 0


PHASES = [
    {"steps": 5, "optimizer": {"name": "adam", "lr": 3e-3}, "parameters": [{"of": "encoder.backbone", "lr": 1e-3, "frozen": 3}]},
    {"steps": 6, "optimizer": {"name": "sgd", "lr": 3e-3}, "sampler": {"name": "shuffled", "size": 12}, "clip": 1.0},
]


@pytest.mark.parametrize("at", [3, 5, 6, 10])
def test_resuming_ends_bit_identical(fresh: Callable[[], Encoder], dataset: Dataset, tmp_path: Path, at: int) -> None:
    """Dropout, an Adam and a momentum phase, a thaw, a change of sampler: stopped before, at and after each."""

    def make(fuse: int) -> Pipeline:
        torch.manual_seed(0)
        losses = {"cross_entropy": {}, "balanced_triplet": {}, "fuse": Fuse(at=fuse)}
        return small_pipeline(fresh(), losses=losses, phases=PHASES)

    torch.manual_seed(7)
    whole = make(99).fit(dataset, progress=False)
    torch.manual_seed(7)
    with pytest.raises(Stop):
        make(at + 1).fit(dataset, out=tmp_path, save_every=1, progress=False)
    torch.manual_seed(123)
    resumed = make(99).fit(dataset, out=tmp_path, resume=True, progress=False)
    assert same(state(whole), state(resumed))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "losses" in line] == [10, 11]
    assert same(state(make(99).fit(dataset, out=tmp_path, resume=True, progress=False)), state(whole)), "a finished run stays as it is"


def test_a_phase_of_no_steps_is_left_out(fresh: Callable[[], Encoder], dataset: Dataset) -> None:
    def make(phases: list[dict[str, Any]]) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return state(small_pipeline(fresh(), phases=phases).fit(dataset, progress=False))

    assert same(make([PHASES[0] | {"steps": 0}, PHASES[1]]), make([PHASES[1]]))


def test_noise_in_training_follows_the_recipes_seed(fresh: Callable[[], Encoder], dataset: Dataset) -> None:
    def run(before: int, **seed: int) -> dict[str, Tensor]:
        pipeline = small_pipeline(fresh(), **seed)
        torch.manual_seed(before)
        pipeline.fit(dataset, progress=False)
        assert torch.initial_seed() == before, "the global stream is the caller's"
        return state(pipeline)

    assert same(run(1), run(2))  # dropout draws
    assert not same(run(1), run(1, seed=1))


def test_workers_do_not_change_the_result(fresh: Callable[[], Encoder], dataset: Dataset) -> None:
    def run(workers: int) -> dict[str, Tensor]:

        torch.manual_seed(0)
        pipeline = small_pipeline(fresh())
        torch.manual_seed(1)
        return state(pipeline.fit(dataset, workers=workers, progress=False))

    assert same(run(0), run(2))


def test_a_run_that_is_there_is_not_overwritten(encoder: Encoder, dataset: Dataset, tmp_path: Path) -> None:
    pipeline = small_pipeline(encoder, 2).fit(dataset, out=tmp_path, progress=False)
    with pytest.raises(InputError, match="holds the checkpoint of an earlier run: resume=True"):
        pipeline.fit(dataset, out=tmp_path, progress=False)


def test_a_checkpoint_of_another_recipe_is_refused(encoder: Encoder, dataset: Dataset, tmp_path: Path) -> None:
    small_pipeline(encoder, 2).fit(dataset, out=tmp_path, progress=False)
    with pytest.raises(InputError, match=r"made by another recipe \(they differ in: phases\)"):
        small_pipeline(encoder, 3, **{"phases.0.clip": 1.0}).fit(dataset, out=tmp_path, resume=True, progress=False)
    with pytest.raises(InputError, match=r"they differ in: compile, seed"):
        small_pipeline(encoder, 2, compile=True, seed=4).fit(dataset, out=tmp_path, resume=True, progress=False)
    with pytest.raises(InputError, match="needs out=FOLDER"):
        small_pipeline(encoder, 3).fit(dataset, resume=True, progress=False)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_parameters_that_thaw_train_and_resume(fresh: Callable[[], Encoder], dataset: Dataset, tmp_path: Path, optimizer: str) -> None:
    """Parameters of one group, some of which have no state yet."""
    phases = [{"steps": 6, "optimizer": {"name": optimizer, "lr": 1e-2}, "parameters": [{"of": "encoder.backbone", "frozen": 3}]}]

    def stop(event: StepEvent) -> None:
        if event.done == 3:
            raise Stop

    whole = small_pipeline(fresh(), phases=phases).fit(dataset, progress=False)
    stopped = small_pipeline(fresh(), phases=phases)
    with pytest.raises(Stop):
        stopped.fit(dataset, out=tmp_path, save_every=1, progress=False, on_step=stop)
    resumed = small_pipeline(fresh(), phases=phases).fit(dataset, out=tmp_path, resume=True, progress=False)
    assert same(state(whole), state(resumed))
    start = small_pipeline(fresh()).model.tensors()
    assert not torch.equal(state(whole)["encoder.backbone.0.weight"], start["encoder.backbone.0.weight"])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("keep", 0, r"keep \(--keep\) = 0: expected a whole number of at least 1"),
        ("save_minutes", 0.0, r"save_minutes \(--save-minutes\) = 0.0: expected a number above 0"),
    ],
)
def test_a_setting_out_of_range_is_named_as_in_python_and_on_the_command_line(
    encoder: Encoder, dataset: Dataset, option: str, value: float, message: str
) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        small_pipeline(encoder, 2).fit(dataset, progress=False, **{option: value})  # type: ignore[arg-type]


class Poison(Loss):
    def forward(self, step: Step) -> dict[str, Tensor]:
        total = step.features.embedding.sum()
        return {"good": total * 0, "bad": total * (float("nan") if step.progress >= 0.5 else 0.0)}


def test_a_loss_that_is_not_finite_stops_and_names_itself(encoder: Encoder, dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"'poison\.bad' is nan at step 5 \(phase 0, step 5\)"):
        small_pipeline(encoder, 8, losses={"poison": Poison()}).fit(dataset, progress=False)


class Guess(AdversarialLoss):
    """A discriminator of the modality, and the loss that opposes it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.discriminator: nn.Linear = nn.Linear(8, 1)

    def score(self, step: Step) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(
            self.discriminator(step.features.embedding).squeeze(1), step.features.modality.float()
        )

    def forward(self, step: Step) -> Tensor:
        return -self.score(step)

    def discriminator_loss(self, step: Step) -> Tensor:
        assert not step.features.embedding.requires_grad
        return self.score(step)


def test_each_turn_moves_only_its_own_parameters(fresh: Callable[[], Encoder], dataset: Dataset) -> None:
    def changes(frozen: str) -> tuple[bool, bool]:

        torch.manual_seed(0)
        start, rival = fresh(), Guess()
        before = start.get_parameter("embedding.weight").clone(), rival.discriminator.weight.clone()
        phases = [{"steps": 2, "parameters": [{"of": frozen, "frozen": True}]}]
        losses = {"guess": rival, "cross_entropy": {"name": "cross_entropy"}}
        small_pipeline(start, losses=losses, phases=phases).fit(dataset, progress=False)
        return not torch.equal(before[0], start.get_parameter("embedding.weight")), not torch.equal(before[1], rival.discriminator.weight)

    assert changes("losses.guess.discriminator") == (True, False)
    assert changes("encoder") == (False, True)


def test_hooks_are_called_for_components_that_train(fresh: Callable[[], Encoder], dataset: Dataset) -> None:
    calls: list[str] = []

    class Hooked(Miner):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Quiet()

        def forward(self, features: Any, distances: Tensor) -> dict[str, Any]:
            return {}

        def after_step(self, step: Step) -> None:
            calls.append("step")

        def end_epoch(self) -> None:
            calls.append("epoch")

    class Quiet(ModuleComponent):
        def after_step(self, step: Step) -> None:
            calls.append("frozen")

    phases = [{"steps": 6, "parameters": [{"of": "miner.inner", "frozen": True}]}]
    small_pipeline(fresh(), miner=Hooked(), losses=["cross_entropy"], phases=phases).fit(dataset, progress=False)
    assert calls.count("step") == 6
    assert calls.count("epoch") == 1  # 72 images in batches of 12
    assert "frozen" not in calls


def test_everything_frozen_is_refused(encoder: Encoder, dataset: Dataset) -> None:
    phases = [{"steps": 2, "parameters": [{"of": "*", "frozen": True}]}]
    with pytest.raises(InputError, match="nothing trains in this phase"):
        small_pipeline(encoder, phases=phases).fit(dataset, progress=False)


def test_bfloat16_trains_in_float32_parameters(encoder: Encoder, dataset: Dataset) -> None:
    pipeline = small_pipeline(encoder, 3, precision="bfloat16").fit(dataset, progress=False)
    assert {v.dtype for v in state(pipeline).values() if v.is_floating_point()} == {torch.float32}


def test_validation_is_logged_and_changes_nothing(fresh: Callable[[], Encoder], dataset: Dataset, tmp_path: Path) -> None:
    from sbirlib.data.split import split

    parted = split(dataset, ["class5"])

    def run(out: Path | None, every: int | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        pipeline = small_pipeline(fresh(), 6, **({} if every is None else {"validate": {"every": every}}))
        torch.manual_seed(1)
        pipeline.fit(parted, out=out, progress=False)
        return state(pipeline) if out is None else checkpoint.of_model(checkpoint.read(out / "checkpoint.safetensors")[0])

    assert same(run(None, None), run(tmp_path, 2))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [0, 2, 4, 6]
    assert (tmp_path / "tensorboard").is_dir()
    assert [file.name for file in sorted((tmp_path / "retrievals").iterdir())] == [f"0000000{step}.png" for step in (0, 2, 4, 6)]


INTERRUPTED = """
import signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell leaves it ignored
sys.path.insert(0, sys.argv[2])
from tests.conftest import TinyEncoder, figure
from sbirlib import build, from_lists
rows = [(f"class{c}", c, i) for c in range(4) for i in range(4)]
data = from_lists("f", sketches=[(figure(c, i, True), n) for n, c, i in rows], photos=[(figure(c, i, False), n) for n, c, i in rows])
p = build(encoder=TinyEncoder(), losses=["cross_entropy"], sampler={"name": "balanced", "categories": 2, "per_modality": 2},
          transform={"name": "sbir", "size": 32}, phases=[{"steps": 100000}])
print("ready", flush=True)
try:
    p.fit(data, out=sys.argv[1], progress=False, tensorboard=False)
except KeyboardInterrupt as error:
    print(error)
"""


def test_control_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(tmp_path), root], stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            while not (tmp_path / "log.jsonl").is_file() or not (tmp_path / "log.jsonl").read_text():
                assert run.poll() is None
                time.sleep(0.1)
            os.kill(run.pid, signal.SIGINT)
            output = run.communicate(timeout=900)[0]
        finally:
            run.kill()
    assert "stopped after step" in output
    assert "resume=True" in output
    assert (tmp_path / "checkpoint.safetensors").is_file()


def test_a_checkpoint_is_a_model(dataset: Dataset, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"encoder": {"name": "backbone", "backbone": "resnet10t", "dim": 8, "pretrained": False}}
    pipeline = build(
        losses=["cross_entropy"],
        transform={"name": "sbir", "size": 32},
        sampler={"name": "balanced", "categories": 3, "per_modality": 2},
        phases=[{"steps": 2}],
        **changes,
    ).fit(dataset, out=tmp_path, progress=False)
    loaded = load(tmp_path / "checkpoint.safetensors")
    assert same(state(pipeline), state(loaded))
    assert loaded.evaluate(dataset) == pipeline.evaluate(dataset)


def test_where_to_run() -> None:
    assert Run(out=Path("x")).checkpoint == Path("x/checkpoint.safetensors")
    assert Run().checkpoint is None
