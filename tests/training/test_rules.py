"""Parameter rules: trained parameters, rates, and frozen steps."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sbirlib.errors import InputError
from sbirlib.interfaces import AdversarialLoss, Encoder, Loss, Step
from sbirlib.phase import Phase, Rule
from sbirlib.spec import Spec, part
from sbirlib.training.model import Model
from sbirlib.training.rules import Rules, matches, scale_rates


class Proxies(Loss):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 8))

    def forward(self, step: Step) -> Tensor:
        total: Tensor = (step.features.embedding @ self.weight.T).sum()
        return total


class Opponent(AdversarialLoss):
    def __init__(self) -> None:
        super().__init__()
        self.discriminator = nn.Linear(8, 1)

    def forward(self, step: Step) -> Tensor:
        value: Tensor = self.discriminator(step.features.embedding).mean()
        return value

    def discriminator_loss(self, step: Step) -> Tensor:
        return -self.forward(step)


def model(encoder: Encoder) -> Model:
    return Model(encoder, {"proxies": Proxies(), "opponent": Opponent()})


def phase(*rules: Rule, weights: tuple[str, ...] = ("proxies", "opponent")) -> Phase:
    return Phase(
        steps=10,
        weights=dict.fromkeys(weights, 1.0),
        parameters=rules,
        optimizer=Spec.of("optimizer", "adam"),
        schedule=Spec.of("schedule", "constant"),
    )


def trains(model: Model) -> set[str]:
    return {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if p.requires_grad}


def test_names_prefixes_and_wildcards() -> None:
    assert matches("encoder.backbone.0.weight", "encoder.backbone")
    assert matches("encoder.embedding.bias", "*.bias")
    assert not matches("encoder.backbone2.weight", "encoder.backbone")


def test_a_frozen_module_thaws_at_its_step_and_is_in_eval_mode_until_then(encoder: Encoder) -> None:
    whole = model(encoder)
    rules = Rules(whole, phase(Rule(of="encoder.backbone", frozen=4)))
    assert rules.turning_points == {0, 4}
    rules.apply(0)
    assert trains(whole) == {"encoder.embedding", "losses.proxies"}
    assert not encoder.get_submodule("backbone.1").training
    assert encoder.get_submodule("dropout").training
    rules.apply(4)
    assert "encoder.backbone.0" in trains(whole)
    assert encoder.get_submodule("backbone.1").training


def test_norms_stay_in_eval_mode_where_a_rule_says_so(encoder: Encoder) -> None:
    whole = model(encoder)
    Rules(whole, phase(Rule(of="encoder.backbone", eval=True))).apply(0)
    assert not encoder.get_submodule("backbone.1").training
    assert encoder.get_submodule("backbone.0").training
    assert "encoder.backbone.1" in trains(whole)


def test_later_rules_win_and_rates_make_groups(encoder: Encoder) -> None:
    rules = Rules(model(encoder), phase(Rule(of="encoder", lr=0.1), Rule(of="encoder.embedding", lr=0.2, weight_decay=0.0)))
    rates = {(g.get("lr"), g.get("weight_decay")): len(g["params"]) for g in rules.groups()}
    assert rates == {(0.1, None): 6, (0.2, 0.0): 2, (None, None): 1}


def test_what_the_phase_does_not_weigh_does_not_train(encoder: Encoder) -> None:
    whole = model(encoder)
    Rules(whole, phase(weights=("opponent",))).apply(0)
    assert not any(name.startswith("losses.proxies") for name in trains(whole))


def test_a_phase_of_one_module_of_the_encoder_trains_it_alone(encoder: Encoder) -> None:
    whole = model(encoder)
    rules = Rules(whole, replace(phase(weights=("proxies",)), encoder="embedding"))
    rules.apply(0)
    assert trains(whole) == {"encoder.embedding", "losses.proxies"}
    assert whole.encoder not in rules.components(0)
    with pytest.raises(InputError, match="no module 'embeding'; did you mean 'embedding'"):
        Rules(whole, replace(phase(), encoder="embeding"))


def test_discriminators_train_in_their_own_turn_and_optimizer_only(encoder: Encoder) -> None:
    whole = model(encoder)
    rules = Rules(whole, phase())
    rules.apply(0)
    assert "losses.opponent.discriminator" not in trains(whole)
    rules.turn(0, opponents=True)
    assert "losses.opponent.discriminator" in trains(whole)
    mine = {id(p) for g in rules.groups() for p in g["params"]}
    theirs = {id(p) for g in rules.groups(opponents=True) for p in g["params"]}
    assert not mine & theirs
    assert len(theirs) == 2
    frozen = Rules(whole, phase(Rule(of="losses.opponent.discriminator", frozen=True)))
    frozen.turn(0, opponents=True)
    assert "losses.opponent.discriminator" not in trains(whole)


def test_a_rule_that_matches_nothing_is_refused(encoder: Encoder) -> None:
    with pytest.raises(InputError, match=r"no parameter is named 'encoder.backbon'; did you mean 'encoder.backbone'"):
        Rules(model(encoder), phase(Rule(of="encoder.backbon", lr=1.0)))


def test_rates_scale_from_their_own_start(encoder: Encoder) -> None:
    optimizer = torch.optim.SGD(Rules(model(encoder), phase(Rule(of="encoder", lr=0.5))).groups(), lr=1.0)
    scale_rates([optimizer], 0.5)
    scale_rates([optimizer], 0.1)
    assert sorted(g["lr"] for g in optimizer.param_groups) == pytest.approx([0.05, 0.1])


def network(backbone: str = "test_resnet") -> Model:
    encoder = part("encoder", {"name": "backbone", "backbone": backbone, "pretrained": False, "dim": 8})
    return Model(encoder, {"proxies": Proxies()})


def test_norms_alone_train() -> None:
    whole = network()
    rules = Rules(
        whole,
        phase(Rule(of="encoder.backbone", frozen=True), Rule(of="encoder.backbone", only="norms", frozen=False), weights=("proxies",)),
    )
    rules.apply(0)
    backbone = {name for name in trains(whole) if name.startswith("encoder.backbone")}
    assert backbone == {name for name, module in whole.named_modules() if isinstance(module, nn.BatchNorm2d)}
    with pytest.raises(InputError, match="'encoder.embedding' has no normalisation layer"):
        Rules(whole, phase(Rule(of="encoder.embedding", only="norms"), weights=("proxies",)))


@pytest.mark.parametrize(("backbone", "layers"), [("resnet18", 9), ("vit_tiny_patch16_224", 13)])
def test_rates_decay_from_layer_to_layer(backbone: str, layers: int) -> None:
    whole = network(backbone)
    rules = Rules(whole, phase(Rule(of="encoder.backbone", lr=0.1, decay=0.5), weights=("proxies",)))
    rates = {id(p): group.get("lr") for group in rules.groups() for p in group["params"]}
    own = {name: rates[id(p)] for name, p in whole.named_parameters()}
    assert sorted({rate for rate in own.values() if rate is not None}) == pytest.approx([0.1 * 0.5**k for k in reversed(range(layers))])
    assert own["encoder.embedding.weight"] is None
    first, last = ("conv1", "layer4.1.bn2") if backbone == "resnet18" else ("patch_embed.proj", "norm")
    assert own[f"encoder.backbone.{first}.weight"] == pytest.approx(0.1 * 0.5 ** (layers - 1))
    assert own[f"encoder.backbone.{last}.weight"] == 0.1
    names = rules.group_names()
    assert len(set(names)) == len(names) == layers + 1
    assert "encoder.backbone, 2 before the last" in names


def test_decay_needs_layers_and_a_rate(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="no backbone names its layers"):
        Rules(model(encoder), phase(Rule(of="encoder.backbone", decay=0.5)))
    own = replace(phase(Rule(of="encoder.backbone", decay=0.5)), optimizer=Spec("optimizer", "mine", instance=torch.optim.SGD))
    with pytest.raises(InputError, match="needs the optimizer's lr"):
        Rules(network(), own)
