"""Images read and prepared in a second on one core: from a folder and from packed files, beside a Pillow loader and decoding alone.

    python -m benchmarks.speed.input              # 2,560 images of each size a round, one worker; --workers N for more

Generated JPEG files (smooth colours with noise, quality 90, 4:2:0) of 500 x 375 and of 256 x 256 pixels, prepared at 224, in batches of
64. All readers stand in a torch DataLoader of equal workers and take turns; each figure is the median of the rounds, and the quartiles of
its ratio to the Pillow loader, round by round, stand beside it. Time is processor time of this process and its workers, which other
programs disturb less than the clock. The Pillow loader is the usual one: open, convert, resize, to a float tensor, collated. Ours give
batches of the same kind (float, in [0, 1]), without augmentation. Freed memory is kept, as on the command line. Decoding alone is
Pillow's. Files are in the page cache; the first round is a warm-up.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from benchmarks.speed.timing import processor
from sbirlib.data import batches as sbirlib_batches
from sbirlib.data import jpeg
from sbirlib.data.batches import Prepared, load
from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import images
from sbirlib.data.packed import pack
from sbirlib.data.transforms import Sbir
from sbirlib.memory import keep_freed_memory

SIDE, BATCH, QUALITY, TIMES = 224, 64, 90, 8
SIZES = ((500, 375), (256, 256))
PLAIN, ALONE = "Pillow loader", "decoding alone"


class PillowFiles(torch.utils.data.Dataset[Tensor]):
    """Files as they are usually loaded: float tensors [3, S, S] in [0, 1]."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        with Image.open(self.paths[i]) as image:
            picture = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        tensor: Tensor = to_tensor(picture)
        return tensor


def write(folder: Path, size: tuple[int, int], count: int) -> None:
    """JPEG files of smooth colours with noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    width, height = size
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (height // 25, width // 25, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        pixels = np.asarray(coarse) + random.normal(0, 4, (height, width, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg", quality=QUALITY)


def plain(paths: list[str], workers: int) -> Iterator[Tensor]:
    """Batches [B, 3, S, S] of the Pillow loader."""
    return iter(torch.utils.data.DataLoader(PillowFiles(paths * TIMES), batch_size=BATCH, num_workers=workers))


def ours(prepared: Prepared, workers: int) -> Iterator[Tensor]:
    """Batches [B, 3, S, S] of a dataset."""
    every = [*range(len(prepared))] * TIMES
    rows = [every[i : i + BATCH] for i in range(0, len(every), BATCH)]
    return (batch.images for batch in load(prepared, rows, seed=0, epoch=0, augment=False, workers=workers))


def decoded(paths: list[str]) -> None:
    """All files decoded by Pillow, and nothing else."""
    for path in paths * TIMES:
        with Image.open(path) as image:
            image.load()


def readers(folder: Path, workers: int) -> dict[str, Callable[[], object]]:
    """Each reader as a call that reads all images once."""
    data = images(folder)
    paths = [data.path(i) for i in range(len(data))]
    packs: dict[str, Dataset] = {"our folder": data}
    for size in (256, SIDE):
        packs[f"packed, pixels, --size {size}"] = pack(data, folder.parent / f"{folder.name}-{size}.pack", size=size)
    packs["packed, JPEG 90, --size 256"] = pack(data, folder.parent / f"{folder.name}-jpeg.pack", size=256, jpeg=90)
    calls: dict[str, Callable[[], object]] = {ALONE: partial(decoded, paths), PLAIN: lambda: _read(plain(paths, workers))}
    for name, dataset in packs.items():
        prepared = Prepared(dataset, Sbir(size=SIDE))
        calls[name] = lambda prepared=prepared: _read(ours(prepared, workers))  # type: ignore[misc]
    return calls


def _read(batches: Iterator[Tensor]) -> None:
    for batch in batches:
        assert batch.shape[1:] == (3, SIDE, SIDE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=320, help=f"files of each size, each read {TIMES} times a round")
    parser.add_argument("--workers", type=int, default=1, help="workers of each loader, a core each")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    sbirlib_batches.CACHE_BYTES = 0  # every image is read every time
    fast = "simplejpeg" if jpeg.fast_decoder() else "Pillow"
    print(
        f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, torch {torch.__version__},"
    )
    print(
        f"torchvision {torchvision.__version__}, Pillow {PIL.__version__}; decoder: {fast}; {options.workers} workers, {options.count} files"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for size in SIZES:
            folder = Path(scratch) / f"{size[0]}x{size[1]}"
            write(folder, size, options.count)
            report(f"JPEG files of {size[0]} x {size[1]} pixels, prepared at {SIDE}", readers(folder, options.workers), options)


def report(title: str, calls: dict[str, Callable[[], object]], options: argparse.Namespace) -> None:
    """Measure the readers in turn, and print images a second and core, and the ratio to the Pillow loader."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(options.rounds + 1):
        for name, call in calls.items():
            start = _processor_time()
            call()
            if round_:  # the first is a warm-up
                times[name].append(_processor_time() - start)
    print(f"\n{title}\n{'reader':32}{'images/s/core':>14}{'x Pillow loader':>17}{'quartiles':>14}")
    for name, values in times.items():
        ratios = [one / other for one, other in zip(times[PLAIN], values, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        print(f"{name:32}{options.count * TIMES / median(values):14,.0f}{median(ratios):17.2f}{f'{low:.2f}-{high:.2f}':>14}")


def _processor_time() -> float:
    """Seconds of this process and of its workers that have ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
