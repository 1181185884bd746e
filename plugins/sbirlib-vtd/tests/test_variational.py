import pytest
import torch

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Step
from sbirlib_vtd.gate_prior import GatePrior, divergence
from sbirlib_vtd.networks import small
from sbirlib_vtd.variational import Variational


def variational() -> Variational:
    torch.manual_seed(0)
    return Variational(dim=6, channels=2)


def drawings(count: int = 5) -> Batch:
    labels = torch.zeros(count, dtype=torch.int64)
    return Batch(torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1)), labels, labels, labels)


def test_in_eval_mode_the_code_is_the_mean_and_in_training_it_is_drawn() -> None:
    encoder, batch = variational().eval(), drawings()
    features = encoder(batch)
    code = encoder.sketch_encoder(small(batch.images))
    torch.testing.assert_close(features.embedding, code @ encoder.mean.weight.T + encoder.mean.bias)
    assert torch.equal(features.embedding, features.rows["latent_mean"])
    torch.testing.assert_close(features.images["reconstruction"], encoder.sketch_decoder(features.embedding))
    encoder.train()
    torch.manual_seed(1)
    features = encoder(batch)
    torch.manual_seed(1)
    noise = torch.randn(5, 6)
    expected = features.rows["latent_mean"] + torch.exp(features.rows["latent_log_variance"] / 2) * noise
    torch.testing.assert_close(features.embedding, expected)


def test_the_prior_of_the_code_is_of_every_image() -> None:
    encoder, batch = variational(), drawings()
    features = encoder(batch)
    step = Step(features, encoder=encoder, batch=batch)
    expected = divergence(features.rows["latent_mean"], features.rows["latent_log_variance"]).sum(1).mean()
    torch.testing.assert_close(GatePrior(of="latent", reduction="sum")(step), expected)
    assert set(step.logged) == {"latent_rms", "latent_mean_rms"}
    assert GatePrior(of="latent").needs <= encoder.provides
    with pytest.raises(InputError, match="of = 'late': expected one of .*; did you mean 'latent'"):
        GatePrior(of="late")  # type: ignore[arg-type]


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="Variational: dim = 0: expected a whole number of at least 1"):
        Variational(dim=0)
    with pytest.raises(InputError, match="Variational: edges = 'hed': expected one of"):
        Variational(edges="hed")  # type: ignore[arg-type]
