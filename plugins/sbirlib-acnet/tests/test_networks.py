import pytest
import torch
from torch import nn

from sbirlib.errors import InputError
from sbirlib_acnet.cycle import Cycle
from sbirlib_acnet.networks import Generator, PatchDiscriminator
from sbirlib_acnet.synthesis import Translator


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


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 4, at least 8, got 34x32"):
        Generator(channels=1, blocks=0)(torch.rand(1, 3, 34, 32))
    with pytest.raises(InputError, match="at least 32 pixels"):
        PatchDiscriminator(channels=1)(torch.rand(1, 3, 28, 28))
    with pytest.raises(InputError, match="Cycle: blocks = -1: expected a whole number of at least 0"):
        Cycle(blocks=-1)
    with pytest.raises(InputError, match="Translator: channels = 0: expected a whole number of at least 1"):
        Translator(channels=0)
