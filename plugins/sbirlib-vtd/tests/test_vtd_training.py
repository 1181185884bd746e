"""The recipe where there is little to learn from."""

import torch

from sbirlib.pipeline import Pipeline
from sbirlib.testing.recipe import small
from sbirlib.testing.subject import Subject
from sbirlib.testing.world import separable


def tiny(**options: object) -> Pipeline:
    return small(Subject("recipe", "vtd", options=options), steps=6)


def test_more_rows_than_sketches() -> None:
    data = separable(categories=3, instances=2)
    pipeline = tiny(**{"encoder.descriptor.rows": 50, "sampler.pairs": 4})
    pipeline.fit(data, device="cpu", progress=False, tensorboard=False)
    assert all(values.isfinite().all() for values in pipeline.encoder.state_dict().values() if values.is_floating_point())
    assert 0 < pipeline.evaluate(data, device="cpu", progress=False)["mAP@all"] <= 1


def test_one_category_alone() -> None:
    data = separable(categories=1, instances=12)
    pipeline = tiny(**{"sampler.per_category": 4})
    before = {name: values.clone() for name, values in pipeline.encoder.named_parameters()}
    pipeline.fit(data, device="cpu", progress=False, tensorboard=False)
    names = [name for name, values in pipeline.encoder.named_parameters() if not torch.equal(values, before[name])]
    assert any(name.startswith("encoder.") for name in names)
    assert any(name.startswith("descriptor.") for name in names)
    assert pipeline.encode_images(data.photos, progress=False).isfinite().all()
