from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.figures.generative import drawings
from sbirlib import Pipeline, build, load
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features, Step
from sbirlib.testing.world import separable
from sbirlib_generative.sketch_decoder import Decoder, SketchDecoder, shuffled, targets

# (modality, instance): a pair, a photo without its sketch, a sketch alone, two sketches of one photo, rows that tell no instance, and
# photos before their sketch, and between two
LABELS = [(SKETCH, 0), (PHOTO, 0), (PHOTO, 1), (SKETCH, 2), (SKETCH, 3), (SKETCH, 3), (PHOTO, 3), (PHOTO, -1), (SKETCH, -1)]
LABELS += [(PHOTO, 4), (SKETCH, 4), (PHOTO, 4), (SKETCH, 4)]
TARGETS = {0: 0, 1: 0, 3: 3, 4: 4, 5: 5, 6: 5, 8: 8, 9: 10, 10: 10, 11: 10, 12: 12}


def step_of(labels: list[tuple[int, int]], size: int = 16) -> Step:
    torch.manual_seed(0)
    modality, instance = torch.tensor(labels).reshape(-1, 2).T
    batch = Batch(torch.rand(len(labels), 3, size, size, dtype=torch.float64), modality, torch.zeros_like(instance), instance)
    return Step(Features.of(batch, torch.randn(len(labels), 6, dtype=torch.float64)), encoder=Encoder(), batch=batch)


@pytest.mark.parametrize("kind", ["mse", "norm"])
def test_equals_equation_4(kind: str) -> None:
    step, loss = step_of(LABELS), SketchDecoder(dim=6, size=16, width=4, kind=kind).double()  # type: ignore[arg-type]
    rows = list(TARGETS)
    codes = step.features.embedding[rows] / step.features.embedding[rows].norm(dim=1, keepdim=True)
    sketches = loss.decoder(codes)
    errors = []
    for k, row in enumerate(rows):
        error = (2 * step.batch.images[TARGETS[row]] - 1 - sketches[k]).flatten()
        errors.append(float((error**2).sum() ** 0.5 if kind == "norm" else (error**2).sum() / error.numel()))
    assert float(loss(step)) == pytest.approx(sum(errors) / len(errors), rel=1e-9)


def test_shuffled_targets_are_sketches_of_other_instances_without_fixed_point() -> None:
    step = step_of(LABELS)
    batch = step.batch
    rows, own = targets(step.local, batch.modality, batch.instance)
    again, images = shuffled(rows, own, batch.instance)
    assert again.tolist() == rows.tolist() == list(TARGETS)
    assert bool((batch.modality[images] == SKETCH).all())
    names = [f"unknown {image}" if batch.instance[image] < 0 else str(int(batch.instance[image])) for image in range(len(batch))]
    exchange = {
        names[old]: {names[new] for i, new in zip(own.tolist(), images.tolist(), strict=True) if names[i] == names[old]}
        for old in own.tolist()
    }
    assert all(len(others) == 1 and name not in others for name, others in exchange.items()), "one instance for another"
    assert {name for others in exchange.values() for name in others} == set(exchange), "a permutation"


def test_the_control_draws_shuffled_targets() -> None:
    step, loss = step_of(LABELS), SketchDecoder(dim=6, size=16, width=4, target="shuffled").double()
    batch = step.batch
    rows, images = shuffled(*targets(step.local, batch.modality, batch.instance), batch.instance)
    sketches = loss.decoder(nn.functional.normalize(step.features.embedding[rows], dim=1))
    expected = float((sketches - (2 * batch.images[images] - 1)).square().mean())
    assert float(loss(step)) == pytest.approx(expected, rel=1e-9)
    own = SketchDecoder(dim=6, size=16, width=4).double()
    own.load_state_dict(loss.state_dict())
    assert float(own(step)) != pytest.approx(expected, rel=1e-3)


def test_one_instance_has_no_other_to_draw() -> None:
    step, loss = step_of([(SKETCH, 0), (PHOTO, 0), (SKETCH, 0)]), SketchDecoder(dim=6, size=16, width=4, target="shuffled").double()
    value = loss(step)
    assert value.item() == 0
    assert value.requires_grad


def test_nothing_to_draw_is_zero_with_a_gradient() -> None:
    step, loss = step_of([(PHOTO, 0), (PHOTO, -1)]), SketchDecoder(dim=6, size=16, width=4).double()
    value = loss(step)
    assert value.item() == 0
    assert value.requires_grad


def test_a_smaller_target_is_the_sketch_reduced() -> None:
    step, loss = step_of(LABELS[:1], size=32), SketchDecoder(dim=6, size=8, width=4).double()
    flat = Batch(
        torch.full((1, 3, 32, 32), 0.25, dtype=torch.float64), *(getattr(step.batch, n) for n in ("modality", "category", "instance"))
    )
    value = loss(Step(step.features, encoder=Encoder(), batch=flat))
    sketches = loss.decoder(nn.functional.normalize(step.features.embedding, dim=1))
    assert float(value) == pytest.approx(float((sketches + 0.5).square().mean()), rel=1e-9)


def test_the_decoder_is_table_1() -> None:
    decoder = Decoder(dim=256)
    assert (decoder.side, decoder.code.out_features) == (7, 7 * 7 * 512)
    ups = [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert ups == [(i, o, (4, 4), (2, 2)) for i, o in ((512, 512), (512, 256), (256, 128), (128, 64), (64, 32))]
    last = [(m.in_channels, m.out_channels, m.kernel_size) for m in decoder.modules() if type(m) is nn.Conv2d]
    assert last == [(32, 3, (4, 4))]
    small = Decoder(dim=8, size=56, width=16)
    assert small.side == 7
    sketches = small(torch.randn(2, 8))
    assert sketches.shape == (2, 3, 56, 56)
    assert float(sketches.abs().max()) <= 1


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="multiple of 2, at least 8, got size=225"):
        SketchDecoder(dim=8, size=225)
    with pytest.raises(InputError, match="width=20 does not allow"):
        SketchDecoder(dim=8, size=224, width=20)
    with pytest.raises(InputError, match="kind = 'l1': expected one of 'mse', 'norm'"):
        SketchDecoder(dim=8, kind="l1")  # type: ignore[arg-type]


def small(name: str, **more: Any) -> Pipeline:
    return build(
        name,
        **{
            "encoder.encoder": {"name": "backbone", "backbone": "test_resnet", "pretrained": False, "dim": 16},
            "transform.size": 32,
            "sampler.pairs": 8,
            **{f"phases.{i}.steps": 2 for i in range(3)},
            **more,
        },
    )


DECODER = {"losses.sketch_decoder.size": 16, "losses.sketch_decoder.width": 16}


def test_the_decoder_is_not_exported_and_the_vectors_are_the_same(tmp_path: Path) -> None:
    data, pipeline = separable(), small("generative", **DECODER)
    pipeline.fit(data, out=tmp_path / "run", device="cpu", progress=False, tensorboard=False)
    pipeline.export(tmp_path / "model.safetensors")
    exported, full = load(tmp_path / "model.safetensors"), load(tmp_path / "run" / "checkpoint.safetensors")
    assert not any("decoder" in name for name in exported.model.state_dict())
    assert any("decoder" in name for name in pipeline.model.state_dict())

    def vectors(given: Pipeline) -> Tensor:
        return given.encode_images(data.photos, progress=False)

    assert torch.equal(vectors(exported), vectors(pipeline))
    assert torch.equal(vectors(full), vectors(pipeline))
    assert drawings(full, data, rows=3).width > 4 * 96
    with pytest.raises(InputError, match="no loss 'sketch_decoder', or was exported without it"):
        drawings(exported, data)


def test_drawing_from_a_code_trains_the_encoder() -> None:
    """With the decoder alone in the phase, the encoder moves."""
    pipeline = small("generative", **DECODER, **{f"phases.{i}.weights": {"sketch_decoder": 1.0} for i in range(3)})
    before = {name: value.clone() for name, value in pipeline.encoder.named_parameters()}
    pipeline.fit(separable(), device="cpu", progress=False, tensorboard=False)
    assert not any(torch.equal(before[name], value) for name, value in pipeline.encoder.named_parameters() if name.endswith("conv1.weight"))
