import pytest
import torch

from sbirlib.errors import InputError
from sbirlib.interfaces import Batch, Step
from sbirlib_vtd.clustered import Clustered
from sbirlib_vtd.quantisation import Quantisation
from sbirlib_vtd.variational import Variational


def clustered(clusters: int = 4) -> Clustered:
    torch.manual_seed(0)
    return Clustered(encoder=Variational(dim=3, channels=2).eval(), clusters=clusters)


def drawings(count: int = 6) -> Batch:
    labels = torch.zeros(count, dtype=torch.int64)
    return Batch(torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1)), labels, labels, labels)


def test_the_embedding_is_the_nearest_centre_and_the_error_its_distance() -> None:
    encoder, batch = clustered(), drawings()
    features = encoder(batch)
    codes, centres = encoder.encoder(batch).embedding, encoder.centres.detach()
    error = 0.0
    for row in range(6):
        distances = [float((codes[row] - centre).square().sum()) for centre in centres]
        nearest = distances.index(min(distances))
        assert torch.equal(features.embedding[row], centres[nearest])
        assert int(features.rows["assignment"][row].argmax()) == nearest
        error += min(distances) / 6
    step = Step(features, encoder=encoder, batch=batch)
    assert float(Quantisation()(step)) == pytest.approx(error, rel=1e-5)


def test_only_centres_that_were_taken_get_a_gradient() -> None:
    encoder, batch = clustered(), drawings()
    features = encoder(batch)
    Quantisation()(Step(features, encoder=encoder, batch=batch)).backward()
    codes = features.rows["assignment"].argmax(1)
    assert encoder.centres.grad is not None
    assert set(encoder.centres.grad.norm(dim=1).nonzero()[:, 0].tolist()) == set(codes.tolist())
    assert all(parameter.grad is None for parameter in encoder.encoder.parameters())


def test_gradient_descent_on_the_error_ends_where_k_means_would() -> None:
    """Each centre is the mean of the codes that it is nearest to."""
    encoder, batch = clustered(), drawings(16)
    optimizer = torch.optim.Adam([encoder.centres], lr=0.05)
    for step in range(200):
        optimizer.zero_grad()
        made_step = Step(encoder(batch), encoder=encoder, batch=batch)
        Quantisation()(made_step).backward()
        optimizer.step()
        encoder.after_step(made_step)
        if step % 10 == 9 and step < 100:
            encoder.end_epoch()
    features = encoder(batch)
    code, nearest = features.rows["code"], features.rows["assignment"].argmax(1)
    assert len(nearest.unique()) > 1
    for k in nearest.unique():
        torch.testing.assert_close(encoder.centres[k], code[nearest == k].mean(0), atol=1e-3, rtol=0)


def test_a_batch_without_images_and_bad_options() -> None:
    encoder = clustered().eval()
    features = encoder(drawings(0))
    assert features.embedding.shape == (0, 3)
    assert float(Quantisation()(Step(features, encoder=encoder, batch=drawings(0)))) == 0
    with pytest.raises(InputError, match="Clustered: clusters = 1: expected a whole number of at least 2"):
        clustered(1)
