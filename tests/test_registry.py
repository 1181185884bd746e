"""Registry of components: names, options, and plugins that are broken, ambiguous, malformed or too new."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sbirlib import part, registry
from sbirlib.errors import InputError
from sbirlib.recipe_file import read

Install = Callable[..., Path]


def test_names_match_wildcards() -> None:
    assert registry.list_parts("recipe", "*hm") == ["mathm"]
    assert {"backbone", "cse"} <= set(registry.list_parts("encoder"))
    assert registry.list_parts("loss", "no*where") == []


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown miner 'modality_hrad'; did you mean 'modality_hard'"):
        part("miner", "modality_hrad")
    with pytest.raises(InputError, match="unknown kind of component 'minor'; did you mean 'miner'"):
        registry.list_parts("minor")


def test_an_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'triplet' has no option 'margn'; did you mean 'margin'"):
        part("loss", "triplet", margn=1)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(InputError, match="'cross_entropy' needs the option 'dim'"):
        part("loss", "cross_entropy", categories=3)


def test_an_object_of_the_kind_is_itself_and_another_is_refused() -> None:
    miner = part("miner", "batch_hard")
    assert part("miner", miner) is miner
    for value in (5, None, True, [], object(), type(miner), part("loss", "triplet")):
        with pytest.raises(InputError, match="expected a miner by name"):
            part("miner", value)
    with pytest.raises(InputError, match="options .kinds. go with the name of a miner"):
        part("miner", miner, kinds=["cross"])
    kinds: list[Any] = [5, None, []]
    for kind in kinds:
        with pytest.raises(InputError, match="unknown kind of component"):
            part(kind, "x")


def test_a_broken_plugin_harms_only_who_asks_for_it(install: Install) -> None:
    install("broken", "[sbirlib.losses]\nsnapped = broken_component:Loss\n", {"broken_component": "import no_such_module"})
    assert "snapped" in registry.list_parts("loss")
    with pytest.raises(InputError, match=r"loss 'snapped' of broken 1\.2 cannot be imported: ModuleNotFoundError: .*no_such_module"):
        registry.load("loss", "snapped")
    assert registry.load("loss", "triplet") is not None


def test_two_distributions_with_one_name_show_the_way_out(install: Install) -> None:
    for name in ("first-plugin", "second-plugin"):
        module = name.replace("-", "_")
        install(name, f"[sbirlib.losses]\ntwice = {module}:Loss\n", {module: f"class Loss:\n    origin = '{name}'"})
    with pytest.raises(
        InputError, match=r"first-plugin 1\.2 and by second-plugin 1\.2: write 'twice@first-plugin' or 'twice@second-plugin'"
    ):
        registry.entry("loss", "twice")
    assert registry.load("loss", "twice@second-plugin").origin == "second-plugin"  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="not offered by 'third'"):
        registry.entry("loss", "twice@third")


def test_a_malformed_file_leaves_the_others_found(install: Install) -> None:
    install("malformed", "[sbirlib.losses\nthis is not = = an entry point\nneither this\n")
    install("sound", "[sbirlib.losses]\nsound = sound_component:Loss\n", {"sound_component": "class Loss: ..."})
    names = registry.list_parts("loss")
    assert {"sound", "triplet", "balanced_triplet"} <= set(names)


def test_finding_imports_nothing() -> None:
    code = "import sys, sbirlib; sbirlib.list_parts('recipe'); print([m for m in ('torch', 'timm', 'faiss') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_entry_of_ours_can_be_used() -> None:
    ours = [e for e in registry.scan().entries if e.distribution.startswith("sbirlib") and e.kind != "recipe"]
    assert len(ours) > 20
    for entry in ours:
        assert callable(registry.import_entry(entry.kind, entry.name)), entry


@pytest.mark.parametrize("kind", ["loss", "recipe"])
def test_a_component_built_for_a_newer_sbirlib_says_so(install: Install, kind: str) -> None:
    points = "[sbirlib.losses]\nahead = ahead_component:Loss\n[sbirlib.recipes]\nahead = ahead_component\n"
    install("ahead", points, {"ahead_component": "class Loss: ..."}, requires=["torch", "sbirlib>=99"])
    with pytest.raises(InputError, match=rf"{kind} 'ahead' of ahead 1\.2 cannot be used: it is built for sbirlib>=99, and this is sbirlib"):
        registry.load("loss", "ahead") if kind == "loss" else read("ahead")


@pytest.mark.parametrize(("name", "way"), [("backbone:", "adapts no other library: leave out ':'"), ("backbone:x", "leave out ':x'")])
def test_a_colon_after_a_component_that_adapts_nothing_is_refused(name: str, way: str) -> None:
    with pytest.raises(InputError, match=way):
        registry.load("encoder", name)


@pytest.mark.parametrize("name", ["pml", "pml:"])
def test_an_adapter_wants_a_name(name: str) -> None:
    with pytest.raises(InputError, match="such as pml:NAME"):
        registry.load("loss", name)
