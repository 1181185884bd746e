"""Fixtures: a small separable dataset, a small encoder, and no network"""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from sbirlib.data.dataset import Dataset
from sbirlib.data.folder import from_lists
from sbirlib.interfaces import Batch, Encoder, Features

os.environ["HF_HUB_OFFLINE"] = "1"


class TinyEncoder(Encoder):
    """Two convolutions, a batch norm and a dropout: enough to train, and to notice lost state."""

    def __init__(self, *, dim: int = 8) -> None:
        super().__init__()
        self.dim = self.vector_dim = dim
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.dropout = nn.Dropout(0.1)
        self.embedding = nn.Linear(16 * 16, dim)

    def forward(self, batch: Batch) -> Features:
        maps = nn.functional.adaptive_avg_pool2d(self.backbone(batch.images - 0.5), 4)
        return Features.of(batch, self.embedding(self.dropout(maps.flatten(1))))


def figure(category: int, instance: int, sketch: bool) -> Image.Image:
    """A bar, a disc, a square or a cross, outlined in a sketch and filled in a photo."""
    random = np.random.default_rng([category, instance])
    image = Image.new("RGB", (32, 32), "white" if sketch else tuple(random.integers(100, 256, 3)))
    draw = ImageDraw.Draw(image)
    x, y = random.integers(2, 8, 2)
    ink = (0, 0, 0) if sketch else tuple(random.integers(0, 80, 3))
    fill = None if sketch else ink
    box = (x, y, x + 20, y + 20)
    shapes: list[Callable[[], None]] = [
        lambda: draw.rectangle((x, y + 8, x + 20, y + 12), fill, ink),
        lambda: draw.ellipse(box, fill, ink),
        lambda: draw.rectangle(box, fill, ink),
        lambda: draw.line((x, y, x + 20, y + 20), ink, 1 if sketch else 5),
        lambda: draw.polygon([(x, y + 20), (x + 10, y), (x + 20, y + 20)], fill, ink),
        lambda: draw.rectangle((x + 8, y, x + 12, y + 20), fill, ink),
    ]
    shapes[category]()
    return image


SMALL = """
encoder = { name = "backbone", backbone = "test_resnet", pretrained = false, dim = 16 }
losses = ["cross_entropy"]
transform = { size = 32 }
sampler = { categories = 3, per_modality = 2 }
phases = [{ steps = 2, optimizer = { lr = 1e-3 } }]
"""  # a recipe of two steps, for `write_figures`


def write_figures(root: Path, each: int) -> None:
    """A folder of six classes with so many sketches and photos each."""
    for c in range(6):
        for i in range(each):
            for modality in ("sketch", "photo"):
                path = root / modality / f"class{c}" / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                figure(c, i, modality == "sketch").save(path)


@pytest.fixture
def dataset() -> Dataset:
    """Six categories x 6 instances, a sketch and a photo of each."""
    rows = [(f"class{c}", f"{c}-{i}", c, i) for c in range(6) for i in range(6)]
    return from_lists(
        "figures",
        sketches=[(figure(c, i, True), name, instance) for name, instance, c, i in rows],
        photos=[(figure(c, i, False), name, instance) for name, instance, c, i in rows],
    )


@pytest.fixture
def fresh() -> Callable[[], TinyEncoder]:
    """Maker of encoders with equal initial weights."""

    def make() -> TinyEncoder:
        torch.manual_seed(0)
        return TinyEncoder()

    return make


@pytest.fixture
def encoder(fresh: Callable[[], TinyEncoder]) -> TinyEncoder:
    return fresh()


@pytest.fixture
def data_folder() -> Path:
    """The folder of real data; tests that need it skip, and say so, where SBIRLIB_DATA is not set."""
    if "SBIRLIB_DATA" not in os.environ:
        pytest.skip("SBIRLIB_DATA is not set: real sketches and photos are needed")
    return Path(os.environ["SBIRLIB_DATA"])


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install small distributions, as an installer leaves them, into a temporary folder on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def make(name: str, entry_points: str, modules: Mapping[str, str] | None = None, *, requires: Sequence[str] = ()) -> Path:
        info = site / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n" + "".join(f"Requires-Dist: {r}\n" for r in requires)
        )
        (info / "entry_points.txt").write_text(entry_points)
        for module, text in (modules or {}).items():
            (site / f"{module}.py").write_text(text)
        return site

    return make


@pytest.fixture
def install_project(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[Path]]:
    """Install a project in place, as its pyproject.toml says; return the folders to put on the path."""

    def make(root: Path) -> list[Path]:
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in project["entry-points"].items()]
        site = install(project["name"], "".join(lines), requires=project["dependencies"])
        monkeypatch.syspath_prepend(str(root / "src"))
        return [site, root / "src"]

    return make


COMPONENT = "from sbirlib.interfaces import Loss\n\n\nclass Mine(Loss): ...\n"


@pytest.fixture
def in_every_state(install: Callable[..., Path]) -> None:
    """A distribution in each state that `sbirlib plugins --check` knows."""
    install("good", "[sbirlib.losses]\ngood = good_component:Mine\n", {"good_component": COMPONENT})
    install("broken", "[sbirlib.losses]\nsnapped = broken_component:Mine\n", {"broken_component": "import no_such_module\n"})
    install("taker", "[sbirlib.losses]\ntriplet = taker_component:Mine\n", {"taker_component": COMPONENT})
    install("malformed", "[sbirlib.losses\nneither = = this\nnor this\n")
    install("ahead", "[sbirlib.losses]\nahead = ahead_component:Mine\n", {"ahead_component": COMPONENT}, requires=["sbirlib>=99"])
