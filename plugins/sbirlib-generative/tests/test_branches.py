from typing import Any

import pytest
import torch

from sbirlib import part
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder
from sbirlib.testing.world import Plain
from sbirlib_generative.branches import Branches

BACKBONE: dict[str, Any] = {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 8}


def pictures() -> Batch:
    torch.manual_seed(0)
    modality = torch.tensor([PHOTO, SKETCH, PHOTO, SKETCH, SKETCH])
    return Batch(torch.rand(5, 3, 32, 32), modality, torch.arange(5), torch.arange(5))


def shaken(encoder: Encoder) -> None:
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(torch.randn_like(p) * 0.1)


@pytest.mark.parametrize("sharing", ["siamese", "heterogeneous", "hybrid"])
def test_each_image_goes_through_its_own_branch(sharing: str) -> None:
    torch.manual_seed(0)
    branches = Branches(encoder=Plain(dim=8), sharing=sharing).eval()  # type: ignore[arg-type]
    if sharing != "siamese":
        shaken(branches.photo)
    photo = branches.encoder if sharing == "siamese" else branches.photo
    batch = pictures()
    features = branches(batch)
    assert features.source.tolist() == [0, 1, 2, 3, 4]
    assert features.modality.tolist() == batch.modality.tolist()
    for i, modality in enumerate(batch.modality.tolist()):
        own = (branches.encoder if modality == SKETCH else photo)(batch[torch.tensor([i])])
        assert torch.allclose(features.vector[i], own.vector[0], atol=1e-6)
    assert torch.allclose(branches.query_vectors(batch)[:, 0], features.vector, atol=1e-6)
    assert torch.allclose(branches.gallery_vectors(batch), features.vector, atol=1e-6)


def test_what_is_shared() -> None:
    counts = {}
    for sharing in ("siamese", "heterogeneous", "hybrid"):
        encoder = part("encoder", {"name": "branches", "sharing": sharing, "encoder": BACKBONE})
        counts[sharing] = sum(p.numel() for p in encoder.parameters())
    embedding = sum(p.numel() for p in part("encoder", BACKBONE).embedding.parameters())
    assert counts["heterogeneous"] == 2 * counts["siamese"]
    assert counts["hybrid"] == counts["heterogeneous"] - embedding


def test_the_embedding_stays_shared_when_it_trains_and_is_loaded() -> None:
    hybrid = Branches(encoder=Plain(dim=8), sharing="hybrid")
    shaken(hybrid)
    again = Branches(encoder=Plain(dim=8), sharing="hybrid")
    again.load_state_dict(hybrid.state_dict())
    assert again.photo.embedding is again.encoder.embedding
    assert torch.equal(again(pictures()).vector, hybrid(pictures()).vector)


def test_bad_sharing_is_refused() -> None:
    with pytest.raises(InputError, match="sharing = 'siamse': expected one of .*; did you mean 'siamese'"):
        Branches(encoder=Plain(), sharing="siamse")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Encoder has none"):
        Branches(encoder=_bare(), sharing="hybrid")


def _bare() -> Encoder:
    encoder = Encoder()
    encoder.dim = encoder.vector_dim = 1
    return encoder
