from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sbirlib.testing import all_checks

SMALL: dict[str, Any] = {"rows": 8, "dim": 12, "channels": 2}
ANY = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 12}  # a descriptor itself trains in a phase of its own
OTHERS: dict[str, Any] = {  # the kit's instances of a category cannot be told apart, and its steps are few
    "miner.within_category": False,
    "miner.negative": "semi_hard",
    "losses.triplet.margin": 0.5,
}
WORDS = {"vectors": str(Path(__file__).with_name("words.txt")), "words": [f"direction{i}" for i in range(6)]}  # the kit's categories
OPTIONS: dict[str, dict[str, Any]] = {
    "encoder/descriptor": {**SMALL, "use": "mix"},  # untrained, all images would take one row
    "encoder/adaptive": {"descriptor": ANY},
    "encoder/clustered": {"clusters": 64},
    "encoder/variational": {"dim": 12, "channels": 2},
    **{f"recipe/{name}": OTHERS | {f"encoder.descriptor.{k}": v for k, v in SMALL.items()} for name in ("vtd", "vtd-hard", "vtd-edge")},
    "recipe/vtd-vae": OTHERS | {"encoder.descriptor.dim": 12, "encoder.descriptor.channels": 2},
    "recipe/vtd-vae-kmeans": OTHERS
    | {"encoder.descriptor.clusters": 8, "encoder.descriptor.encoder.dim": 12, "encoder.descriptor.encoder.channels": 2},
    "recipe/vtd-classify": OTHERS,
    "recipe/vtd-words": OTHERS | {f"losses.word_vectors.{k}": v for k, v in WORDS.items()},
    "loss/cross_gradient": {"channels": 2},
    "loss/word_vectors": {**WORDS, "words": WORDS["words"][:4]},
    "recipe/hard-transfer": OTHERS,
    "recipe/info-nce-triplet": OTHERS,
    "recipe/hard-transfer-crossgrad": OTHERS | {"losses.cross_gradient.channels": 2},
    "recipe/hard-transfer-reptile": OTHERS
    | {"sampler.categories": 5, "sampler.length": 5, "phases.0.optimizer.every": 5, "phases.0.optimizer.share": 0.9},
    "sampler/subtasks": {"categories": 4, "length": 3, "pairs": 8},
}
EXPECTED = {
    "recipe/cvae-regression/learns_what_can_be_told_apart": "its features are as ImageNet left them, and the kit's backbone knows nothing",
    "loss/cross_gradient/gradient_reaches_rows_and_parameters": "it encodes images of its own making, and reads no row of the step",
    "loss/cross_gradient/is_zero_with_a_gradient_when_nothing_is_valid": "its domain network names a category however many there are",
    "loss/cross_gradient/is_the_same_in_two_processes": "each process mines among the images that it moved itself",
    "encoder/clustered/gradients_reach_every_parameter": "k-means moves the centres alone",
    "encoder/clustered/vectors_rank_as_distances_do": "before training all images are nearest to one centre, so all photos tie",
}
CHECKS = all_checks("sbirlib-vtd", options=OPTIONS, expected_failures=EXPECTED)


@pytest.mark.parametrize(("name", "check"), CHECKS)
def test_conforms(name: str, check: Callable[[], None]) -> None:
    check()
