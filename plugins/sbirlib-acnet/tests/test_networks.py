import pytest
import torch
from torch import nn

from sbirlib.errors import InputError
from sbirlib.testing.world import Plain
from sbirlib_acnet.cycle import Cycle
from sbirlib_acnet.networks import Generator, PatchDiscriminator, Start
from sbirlib_acnet.patch_adversary import PatchAdversary
from sbirlib_acnet.synthesis import Synthesis, Translator


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_networks_are_those_of_tables_4_and_5() -> None:
    assert parameters(Generator()) == 161_923
    assert parameters(PatchDiscriminator()) == 44_537
    assert parameters(Generator(channels=64, blocks=9)) == 11_378_179  # the resnet_9blocks of CycleGAN's code
    assert parameters(PatchDiscriminator(channels=64)) == 2_764_737  # and its discriminator
    with torch.no_grad():
        photo = torch.rand(1, 3, 224, 224)
        assert PatchDiscriminator()(photo).shape == (1, 1, 26, 26)
        photos = Generator(blocks=1)(photo)
    assert photos.shape == photo.shape
    assert 0 <= float(photos.min()) < float(photos.max()) <= 1


def test_the_generator_is_table_4_layer_by_layer() -> None:
    c, blocks = 8, 8
    kinds = [(type(m), m.kernel_size, m.stride, m.out_channels, m.padding_mode) for m in Generator().modules() if isinstance(m, nn.Conv2d)]
    down = [(nn.Conv2d, (7, 7), (1, 1), c, "reflect"), *((nn.Conv2d, (3, 3), (2, 2), n * c, "zeros") for n in (2, 4))]
    assert kinds == [*down, *[(nn.Conv2d, (3, 3), (1, 1), 4 * c, "reflect")] * (2 * blocks), (nn.Conv2d, (7, 7), (1, 1), 3, "reflect")]
    up = [(m.kernel_size, m.stride, m.out_channels) for m in Generator().modules() if isinstance(m, nn.ConvTranspose2d)]
    assert up == [((3, 3), (2, 2), 2 * c), ((3, 3), (2, 2), c)]


def test_the_discriminator_is_table_5_layer_by_layer() -> None:
    layers = [(m.kernel_size, m.stride, m.out_channels) for m in PatchDiscriminator().modules() if isinstance(m, nn.Conv2d)]
    assert layers == [((4, 4), (s, s), n) for s, n in ((2, 8), (2, 16), (2, 32), (1, 64), (1, 1))]
    assert {m.negative_slope for m in PatchDiscriminator().modules() if isinstance(m, nn.LeakyReLU)} == {0.2}


def convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def owners(start: Start) -> list[nn.Module]:
    """The components that own convolutions, with these initial values."""
    return [
        Synthesis(encoder=Plain(), channels=8, blocks=1, start=start).translator,
        PatchAdversary(channels=8, start=start),
        Cycle(channels=8, blocks=1, start=start),
    ]


def test_initial_values_are_pytorchs_unless_they_are_cyclegans() -> None:
    """PyTorch's are uniform within 1 / sqrt(fan-in); CycleGAN's are N(0, 0.02), with biases of zero (Zhu et al. 2017, appendix 7.1)."""
    torch.manual_seed(0)
    for component in owners("default"):
        for layer in convolutions(component):
            bound = layer.weight[0].numel() ** -0.5
            assert bound * 0.9 < float(layer.weight.detach().abs().max()) <= bound
            assert layer.bias is not None
            assert 0 < float(layer.bias.detach().abs().max()) <= bound
    for component in owners("normal"):
        weights = torch.cat([layer.weight.detach().flatten() for layer in convolutions(component)])
        assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
        assert float(weights.abs().max()) > 0.06
        assert not any(layer.bias.any() for layer in convolutions(component) if layer.bias is not None)


@pytest.mark.parametrize("start", ["default", "normal"])
def test_a_residual_generator_starts_as_the_identity_and_adds_its_layers(start: Start) -> None:
    torch.manual_seed(0)
    images, generator = torch.rand(2, 3, 16, 16), Generator(channels=2, blocks=1, start=start, residual=True)
    assert torch.equal(generator(images), images)
    nn.init.normal_(convolutions(generator)[-1].weight, std=10)
    outputs = generator(images)
    assert torch.equal(outputs, images + generator.layers(2 * images - 1))
    assert -1 < float(outputs.detach().min()) < 0, "nothing is clamped"
    assert 1 < float(outputs.detach().max()) < 2


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 4, at least 8, got 34x32"):
        Generator(channels=1, blocks=0)(torch.rand(1, 3, 34, 32))
    with pytest.raises(InputError, match="at least 32 pixels"):
        PatchDiscriminator(channels=1)(torch.rand(1, 3, 28, 28))
    with pytest.raises(InputError, match="Cycle: blocks = -1: expected a whole number of at least 0"):
        Cycle(blocks=-1)
    with pytest.raises(InputError, match="Translator: channels = 0: expected a whole number of at least 1"):
        Translator(channels=0)
