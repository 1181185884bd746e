"""Training on a large set, as a user does it: packed, two processes, killed, resumed on one, stopped by its validation, compared, evaluated.

    python -m benchmarks.durability.large --out FOLDER                     # 100,000 generated images; about an hour on two cores
    python -m benchmarks.durability.large --out FOLDER --images 1200

Every command is printed as it is run, with its last lines and its time. Run it again after an interruption: images that are there stay.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from benchmarks.speed.timing import processor
from sbirlib import synthetic
from sbirlib.interfaces import SKETCH

RECIPE = """# a small network, from scratch
losses = { cross_entropy = {} }
validate = { every = 50, metric = "mAP@all", average = "class", patience = 2 }

[encoder]
name = "cse"
backbone = "resnet10t"
dim = 128
pretrained = false
timm_options = { stem_type = "", channels = [32, 64, 128, 256] }

[transform]
size = 48

[sampler]
categories = 16
per_modality = 4

[[phases]]
steps = 4000
optimizer = { lr = 1e-3 }
schedule = { name = "constant", warmup = 20 }
"""
CLASSES = 250
TAIL = 12  # lines of a command's output that are shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for images, runs and pictures")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--every", type=int, default=50, help="steps between validations")
    options = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}\n")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "small.toml").write_text(RECIPE.replace("every = 50", f"every = {options.every}"), encoding="utf-8")
    for name in ("runs", "large.pack"):
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        (out / name).unlink(missing_ok=True)
    start = time.monotonic()
    generate(out / "large", options.images, options.classes)
    print(f"{options.images} images generated in {time.monotonic() - start:.0f} s\n", flush=True)
    data = "--data large.pack --split seed:0"
    run(out, "sbirlib pack large --size 64 --out large.pack")
    train = f"sbirlib train small.toml {data} --out runs/first --save-every 50"
    kill(out, f"torchrun --standalone --nproc-per-node 2 --no-python {train}")
    run(out, f"{train} --resume")
    other = f"{data} --set sampler.categories=32 --set sampler.per_modality=2"
    run(out, f"torchrun --standalone --nproc-per-node 2 --no-python sbirlib train small.toml {other} --out runs/other")
    run(out, f"sbirlib compare runs/first runs/other {data}")
    run(out, f"sbirlib eval runs/first/model.safetensors {data}")


def generate(folder: Path, images: int, classes: int) -> None:
    """Write a folder of sketches and photos of as many classes, as PNG files, on all cores; files that are there stay."""
    instances = images // (2 * classes)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(partial(write, folder, instances, classes), range(0, 2 * classes * instances, 500)):
            pass


def write(folder: Path, instances: int, classes: int, first: int) -> None:
    """Write up to 500 of the images, from number `first`."""
    torch.set_num_threads(1)
    dataset = synthetic(categories=classes, unseen=max(1, classes // 6), instances=instances, sketches=1, size=64)
    for i in range(first, min(first + 500, len(dataset))):
        modality = "sketch" if dataset.modality[i] == SKETCH else "photo"
        file = folder / modality / dataset.categories[dataset.category[i]] / f"{dataset.instance[i]}.png"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            partial_file = file.with_name(f".{file.name}")
            dataset.read(i).save(partial_file, format="PNG")
            partial_file.rename(file)


def environment() -> dict[str, str]:
    """Variables with the commands of this environment on the path."""
    return os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def run(folder: Path, line: str) -> None:
    """Run a command to its end, and print it with its last lines, time and peak memory."""
    print(f"$ {line}", flush=True)
    start = time.monotonic()
    process = subprocess.Popen(line.split(), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = [text.rstrip() for text in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    messages = [text for text in lines if text and "warn" not in text.lower()]
    print("\n".join(messages[-TAIL:]))
    print(f"[{time.monotonic() - start:.0f} s, at most {usage.ru_maxrss / 2**20:.2f} GiB in one process]\n", flush=True)
    if process.returncode:
        raise SystemExit(f"failed: {line}")


def kill(folder: Path, line: str) -> None:
    """Run a command and kill all its processes some steps after its second checkpoint."""
    print(f"$ {line}", flush=True)
    start, file, writes = time.monotonic(), folder / "runs" / "first" / "checkpoint.safetensors", set[int]()
    process = subprocess.Popen(
        line.split(), cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while len(writes) < 2:
        if process.poll() is not None:
            raise SystemExit(f"ended before it was killed: {line}")
        if file.is_file():
            writes.add(file.stat().st_mtime_ns)
        time.sleep(0.2)
    time.sleep(2)
    for child in children(process.pid):  # sessions of their own
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.wait()
    print(f"[killed after {time.monotonic() - start:.0f} s]\n", flush=True)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    output = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(text) for text in output.split()]


if __name__ == "__main__":
    main()
