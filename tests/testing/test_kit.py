"""Conformance kit: sound components pass every check, and each check fails on a component with exactly that defect."""

from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

from sbirlib.errors import InputError
from sbirlib.interfaces import Encoded
from sbirlib.testing import CheckFailed, all_checks, check_part, report

DEFECTS = Path(__file__).parent / "defects"

SOUND = ("encoder/sound", "miner/first_of_each", "loss/spread", "evaluator/nearest")
DEFECTIVE = [
    ("encoder/online", "builds_by_default", "opens a connection"),
    ("encoder/positional", "options_are_explicit", "'dim: int = 8' is not an explicit keyword-only option"),
    ("encoder/loose", "options_are_explicit", r"'\*\*anything: Any' is not an explicit"),
    ("encoder/unwritable", "options_are_explicit", "cannot be stored in a recipe"),
    ("encoder/unexplained", "options_are_typed_and_explained", "the option sharpness is not explained"),
    ("encoder/untyped", "options_are_typed_and_explained", "the option sharpness has no annotation"),
    ("encoder/outside", "options_are_typed_and_explained", "the default of sharpness is not allowed by its own annotation: 0.5"),
    ("encoder/lax", "wrong_values_are_refused", "the option sharpness takes .*, against its annotation"),
    ("encoder/mutable", "options_are_explicit", "the default of scales is a list, which all share"),
    ("encoder/tupled", "options_are_explicit", "behaves otherwise once scales went through JSON"),
    ("encoder/strict_tuple", "options_are_explicit", "with options that were stored as JSON it raises InputError"),
    ("encoder/enumerated", "options_are_explicit", "behaves otherwise once kind went through JSON"),
    ("encoder/forgetful", "state_is_whole", "keep all state in state_dict"),
    ("encoder/seasoned", "state_is_whole", "with the same state its embedding in eval mode differs"),
    ("encoder/tallying", "state_is_whole", "used further from the same state its state embedding.bias differs"),
    ("loss/counting", "state_is_whole", "with the same state its loss in eval mode differs"),
    ("encoder/painter", "leaves_its_inputs_alone", r"changes its argument 0\.images in place"),
    ("miner/diagonal", "leaves_its_inputs_alone", "changes its argument 1 in place"),
    ("loss/relabeller", "leaves_its_inputs_alone", r"changes its argument 0\.features\.category in place"),
    ("evaluator/centring", "leaves_its_inputs_alone", r"changes its argument 0\.vectors in place"),
    ("evaluator/normaliser", "leaves_its_inputs_alone", r"changes its argument 1\.vectors in place"),
    ("encoder/dicing", "draws_from_torchs_generator_in_training_alone", "touches the global generator of random"),
    ("encoder/noisy", "draws_from_torchs_generator_in_training_alone", "touches the global generator of torch"),
    ("loss/numpy_init", "draws_from_torchs_generator_in_training_alone", "touches the global generator of numpy"),
    ("evaluator/resampler", "draws_from_torchs_generator_in_training_alone", "touches the global generator of numpy"),
    ("encoder/homebody", "makes_tensors_on_the_device_of_its_inputs", "mul meets a tensor of the CPU"),
    ("encoder/counting_at_home", "makes_tensors_on_the_device_of_its_inputs", "add_ meets a tensor of the CPU"),
    ("loss/weighted", "makes_tensors_on_the_device_of_its_inputs", "mul meets a tensor of the CPU"),
    ("miner/listing", "makes_tensors_on_the_device_of_its_inputs", "first.anchor is on the CPU"),
    ("loss/hashed", "is_the_same_in_another_process", "its loss in eval mode differs in another process"),
    ("encoder/coupled", "takes_uneven_batches", "with a batch of 13 images in unequal shares it raises RuntimeError"),
    ("loss/paired", "takes_uneven_batches", "with a batch of 13 images in unequal shares it raises RuntimeError"),
    ("miner/halves", "takes_uneven_batches", "with a batch of 13 rows in unequal shares it raises RuntimeError"),
    ("encoder/wrong_width", "gives_the_shapes_it_says", r"embedding is \[16, 8\], expected \[16, 9\]"),
    ("encoder/empty_promise", "gives_the_shapes_it_says", "provides points"),
    ("encoder/noisy", "is_deterministic_in_eval_mode", "two calls in eval mode differ"),
    ("encoder/sociable", "rows_do_not_depend_on_their_batch", "differs from its row in a batch"),
    ("encoder/mixed", "takes_either_modality", "encoded differently from a mixed batch"),
    ("encoder/parametric", "distances_read_no_parameter", "change with the encoder's parameters"),
    ("encoder/unranked", "vectors_rank_as_distances_do", "rank otherwise by their vectors"),
    ("encoder/deaf", "gradients_reach_every_parameter", "no finite gradient reaches unused"),
    ("miner/careless", "triplets_are_of_their_kind", "positive of another category"),
    ("miner/misnamed", "triplets_are_of_their_kind", "cross has a positive of the same modality"),
    ("miner/selfish", "triplets_are_of_their_kind", "takes an anchor for its own positive"),
    ("miner/own_image", "triplets_are_of_their_kind", "has a positive of the anchor's own image"),
    ("miner/brittle", "gives_none_where_none_is_possible", "with no row it raises"),
    ("miner/hoarder", "keeps_no_graph", "keeps the distances"),
    ("miner/cubic", "takes_memory_of_order_n_squared", "choose by rows"),
    ("loss/rows", "is_a_finite_scalar", r"loss is \[16\], expected a scalar"),
    ("loss/detached", "gradient_reaches_rows_and_parameters", "no gradient reaches the features"),
    ("loss/first_row", "ignores_the_order_of_rows", "with its rows shuffled"),
    ("loss/even_rows", "ignores_the_order_of_rows", "with its rows shuffled"),
    ("loss/undefined", "is_zero_with_a_gradient_when_nothing_is_valid", "with no row it is nan"),
    ("loss/crooked", "gradient_is_right", "not that of its value"),
    ("loss/caster", "leaves_its_parameters_alone", "changes the dtype or device of proxies"),
    ("loss/lonely", "is_the_same_in_two_processes", "see step.mean"),
    ("loss/cheat", "opponents_take_turns", "trains helper"),
    ("loss/overreaching", "imports_only_what_it_declares", "imports faiss, which defects does not name in its dependencies"),
    ("loss/overreaching", "imports_only_what_it_declares", "a component knows the contract"),
    ("loss/overreaching", "imports_only_what_it_declares", "imports json and does not use it"),
    ("evaluator/percent", "gives_fractions", r"expected a share in \[0, 1\]"),
    ("evaluator/first_queries", "ignores_the_order_of_queries_and_gallery", "shuffled nearest is"),
    ("evaluator/greedy", "works_in_chunks", "go by chunks of queries"),
    ("evaluator/unmeant", "metrics_are_means_of_their_queries", "its queries' mean is"),
    ("evaluator/unclassed", "metrics_are_means_of_their_queries", "the mean over classes of the means of their queries is"),
    ("evaluator/optimist", "wins_nothing_by_ties", r"with all scores equal nearest is 1\.000"),
    ("sampler/global_draw", "is_a_pure_function", "other batches the second time"),
    ("recipe/still", "learns_what_can_be_told_apart", "on data that is easily told apart"),
    ("recipe/counting", "resumes_where_it_stopped", "differs from an undisturbed run's"),
]


@pytest.fixture(autouse=True)
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DEFECTS))


def defective_miners() -> Any:
    spec = spec_from_file_location("defective_miners", DEFECTS / "defective_miners.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(component: str, name: str) -> Callable[[], None]:
    return dict(all_checks(component.partition("/")[2]))[f"{component}/{name}"]


@pytest.mark.parametrize("component", SOUND)
def test_a_sound_component_passes_every_check(component: str) -> None:
    kind, name = component.split("/")
    check_part(kind, name)


@pytest.mark.parametrize(("component", "name", "message"), DEFECTIVE)
def test_each_check_fails_on_the_component_with_that_defect(component: str, name: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        check(component, name)()


def test_every_check_has_a_component_that_fails_it() -> None:
    names = {
        name.rpartition("/")[2]
        for component in (*SOUND, "sampler/global_draw", "recipe/still")
        for name, _ in all_checks(component.split("/")[1])
    }
    failures = {name for _, name, _ in DEFECTIVE} | {"is_complete_as_it_stands", "equals_its_oracle"}  # below
    assert names - failures == set()


def test_a_recipe_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(InputError, match="recipe has no option 'simpler'; did you mean 'sampler'"):
        check("recipe/misspelt", "is_complete_as_it_stands")()


def test_a_miner_is_held_against_its_oracle() -> None:
    oracle = defective_miners().first_of_each
    check_part("miner", "first_of_each", oracle=oracle)
    with pytest.raises(CheckFailed, match="first differs from the oracle"):
        check_part("miner", "first_of_each", oracle=lambda f, d: {"first": [t[::-1] for t in oracle(f, d)["first"]]})


def test_an_evaluator_is_held_against_its_oracle() -> None:
    def oracle(queries: Encoded, gallery: Encoded) -> dict[str, float]:
        hits = 0
        for query, category in zip(queries.vectors, queries.category, strict=True):
            scores = [max(float(vector @ photo) for vector in query) for photo in gallery.vectors]
            hits += int(gallery.category[scores.index(max(scores))] == category)
        return {"nearest": hits / len(queries)}

    check_part("evaluator", "nearest", oracle=oracle)
    with pytest.raises(CheckFailed, match="against its oracle nearest is"):
        check_part("evaluator", "nearest", oracle=lambda q, g: {"nearest": 1 - oracle(q, g)["nearest"]})


def test_an_expected_failure_may_not_pass() -> None:
    failing, passing = "encoder/noisy/is_deterministic_in_eval_mode", "encoder/noisy/builds_by_default"
    checks = dict(all_checks("noisy", expected_failures={failing: "it draws", passing: "no reason"}))
    checks[failing]()
    with pytest.raises(CheckFailed, match=r"builds_by_default passes, and was expected to fail \(no reason\)"):
        checks[passing]()
    with pytest.raises(InputError, match="there is no check 'encoder/noisy/is_deterministic'"):
        all_checks("noisy", expected_failures={"encoder/noisy/is_deterministic": "misspelt"})


def test_a_distribution_offers_the_checks_of_all_its_components() -> None:
    offered = {name.rpartition("/")[0] for name, _ in all_checks("sbirlib-mathm")}
    assert {"encoder/cse", "miner/modality_hard", "loss/balanced_triplet", "evaluator/modality_gap", "recipe/mathm"} <= offered
    assert not any("backbone" in name for name in offered)
    with pytest.raises(InputError, match="nothing installed is called 'sbirlib-mahtm'; did you mean 'sbirlib-mathm'"):
        all_checks("sbirlib-mahtm")


def test_keys_that_json_turns_into_texts_are_noticed() -> None:
    check_part("encoder", "keyed")
    with pytest.raises(CheckFailed, match="behaves otherwise once weights went through JSON"):
        check_part("encoder", "keyed", options={"weights": {1: 2.0}})


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No checks of tensors' annotations, which the compiler of torch 2.10 cannot trace."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_a_report_says_how_a_component_is_compiled_and_exported() -> None:
    compiled, exported = report("encoder", "sound")
    assert compiled.startswith("encoder/sound: torch.compile: the same result, graph breaks: ")
    assert "Tensor.item()" not in compiled
    assert exported == "encoder/sound: torch.export: the same result"
    compiled, exported = report("encoders", "branching")
    assert compiled.startswith("encoder/branching: torch.compile: the same result, graph breaks: ")
    assert "Tensor.item()" in compiled
    assert exported.startswith("encoder/branching: torch.export: raises GuardOnDataDependentSymNode")
    with pytest.raises(InputError, match="there is no report of kind 'evaluator'"):
        report("evaluator", "nearest")


def test_kinds_may_be_called_as_entry_points_call_them() -> None:
    check_part("losses", "spread")
    with pytest.raises(InputError, match="unknown kind of component 'looses'"):
        check_part("looses", "spread")


def test_checks_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for _, run in all_checks("spread"):
        run()
    assert torch.equal(before, torch.get_rng_state())
