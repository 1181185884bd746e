"""Skeletons of new plugin distributions: files, conformance, and refused names."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sbirlib.errors import InputError
from sbirlib.skeleton import KINDS, new_plugin
from sbirlib.testing import all_checks


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_every_check(kind: str, tmp_path: Path, install_project: Callable[[Path], object]) -> None:
    install_project(new_plugin(f"my_{kind}", kind=kind, folder=tmp_path))
    checks = all_checks(f"sbirlib-my-{kind}")
    assert checks
    for _, check in checks:
        check()


def test_a_new_component_is_two_files_beside_its_test(tmp_path: Path) -> None:
    root = new_plugin("mine", kind="loss", folder=tmp_path)
    files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert files == {"pyproject.toml", "README.md", "src/sbirlib_mine/__init__.py", "src/sbirlib_mine/mine.py", "tests/test_conformance.py"}
    subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "."], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--check", "--isolated", "--line-length", "140", "."], cwd=root, check=True)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("mine", "los", "no skeleton for the kind 'los'; did you mean 'loss'"),
        ("my-loss", "loss", "a lower-case word that Python accepts as a module's, such as my_loss"),
        ("class", "loss", "a lower-case word"),
        ("triplet", "loss", "there is a loss 'triplet' already, by sbirlib"),
    ],
)
def test_what_cannot_be_a_plugin_is_refused(name: str, kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        new_plugin(name, kind=kind, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    new_plugin("mine", kind="loss", folder=tmp_path)
    with pytest.raises(InputError, match="is there already"):
        new_plugin("mine", kind="loss", folder=tmp_path)
