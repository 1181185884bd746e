import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Encoder, Features, Step
from sbirlib_vtd.conditional_vae import ConditionalVae, photos_of
from sbirlib_vtd.feature_regression import FeatureRegression
from sbirlib_vtd.gate_prior import GatePrior, divergence


class Flat(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.dim = self.vector_dim = 4
        self.layer = nn.Linear(48, 4)

    def forward(self, batch: Batch) -> Features:
        return Features.of(batch, self.layer(batch.images.flatten(1)))


def world() -> tuple[ConditionalVae, Batch, Flat]:
    """Two sketches of instance 7, its photo, a sketch without a photo, and a photo without a sketch."""
    torch.manual_seed(0)
    inner = Flat()
    encoder = ConditionalVae(encoder=inner, latent=3, hidden=5, draws=2)
    modality, instance = torch.tensor([0, 0, 1, 0, 1]), torch.tensor([7, 7, 7, 8, 9])
    return encoder, Batch(torch.rand(5, 3, 4, 4), modality, torch.zeros(5, dtype=torch.int64), instance), inner


def test_each_sketch_finds_its_photo() -> None:
    _, batch, inner = world()
    photo, paired = photos_of(inner(batch))
    assert photo.tolist() == [2, 2, 2, 3, 4]
    assert paired.tolist() == [True, True, False, False, False]


def test_training_and_search_are_what_they_say() -> None:
    encoder, batch, inner = world()
    x = F.normalize(inner.layer(batch.images.flatten(1)), dim=1)
    torch.manual_seed(1)
    features = encoder.train()(batch)
    torch.manual_seed(1)
    noise = torch.randn(5, 3)
    for row in (0, 1):
        mean, log_variance = encoder.posterior(torch.cat([x[2], x[row]])).chunk(2)
        z = mean + torch.exp(log_variance / 2) * noise[row]
        torch.testing.assert_close(features.rows["regressed"][row], encoder.decoder(torch.cat([z, x[row]])))
        torch.testing.assert_close(features.rows["latent_mean"][row], mean)
    assert not features.rows["latent_mean"][2:].any()
    features = encoder.eval()(batch)
    for row in (0, 1, 3):
        regressed = torch.stack([encoder.decoder(torch.cat([z, x[row]])) for z in encoder.noise]).mean(0)
        torch.testing.assert_close(features.vector[row], regressed / regressed.square().sum().sqrt())
    torch.testing.assert_close(features.vector[[2, 4]], x[[2, 4]])


def test_the_losses_are_means_over_paired_sketches() -> None:
    encoder, batch, _ = world()
    features = encoder.train()(batch)
    loss = FeatureRegression(dim=4)
    terms = loss(Step(features, encoder=encoder, batch=batch))
    regressed, rows = features.rows["regressed"], features.rows
    spread = divergence(rows["latent_mean"][:2], rows["latent_log_variance"][:2])  # of the two sketches, and of no photo
    torch.testing.assert_close(GatePrior(of="latent")(Step(features, encoder=encoder, batch=batch)), spread.mean())
    photo = torch.stack([(regressed[i] - rows["condition"][2]).square().sum() for i in (0, 1)]).sum() / 2
    sketch = torch.stack([(loss.back(regressed[i]) - rows["condition"][i]).square().sum() for i in (0, 1)]).sum() / 2
    torch.testing.assert_close(terms["photo"], photo)
    torch.testing.assert_close(terms["sketch"], sketch)
    (terms["photo"] + terms["sketch"]).backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in (*encoder.posterior.parameters(), *encoder.decoder.parameters()))


def test_without_a_pair_all_is_zero() -> None:
    encoder, batch, _ = world()
    alone = batch[torch.tensor([3, 4])]
    terms = FeatureRegression(dim=4)(Step(encoder.train()(alone), encoder=encoder, batch=alone))
    assert [float(v.detach()) for v in terms.values()] == [0, 0]
    assert len(encoder.eval()(batch[torch.tensor([], dtype=torch.int64)])) == 0


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="ConditionalVae: draws = 0: expected a whole number of at least 1"):
        ConditionalVae(encoder=Flat(), draws=0)
