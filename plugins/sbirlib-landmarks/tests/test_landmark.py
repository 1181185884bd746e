import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbirlib.edges import as_drawing, sobel
from sbirlib.encoders.backbone import Backbone
from sbirlib.errors import InputError
from sbirlib.interfaces import PHOTO, SKETCH, Batch, Encoder, Features
from sbirlib_landmarks.landmark import Landmark
from sbirlib_landmarks.points import farthest_points
from sbirlib_landmarks.pooling import landmark_pool, project


def landmark(*, backbone: str = "test_resnet", **options: Any) -> Landmark:
    torch.manual_seed(0)
    inner = Backbone(backbone=backbone, pretrained=False, dim=8, output_stride=8)
    encoder = Landmark(encoder=inner, **{"landmarks": 5, "filters": 3, **options})
    if encoder.offsets is not None:
        nn.init.normal_(encoder.offsets.weight, std=0.02)
    return encoder.eval()


def drawings(count: int = 4, size: int = 64) -> Batch:
    """Black lines on white, sketches and photos by turns."""
    images = torch.ones(count, 3, size, size)
    for i in range(count):
        images[i, :, 8 + 3 * i, 10:50] = 0.0
        images[i, :, 20:56, 12 + 5 * i] = 0.0
    labels = torch.arange(count)
    return Batch(images, torch.tensor([SKETCH, PHOTO] * count)[:count], labels, labels)


def place_of(pixel: float, side: int, cells: int, projection: str) -> float:
    """A pixel's coordinate on the map."""
    if projection == "centre":
        return min(max((pixel + 0.5) * cells / side - 0.5, 0.0), cells - 1.0)
    return min(math.floor(pixel * cells / side) if projection == "floor" else math.ceil(pixel * cells / side), cells - 1)


def literal(encoder: Landmark, image: Tensor) -> tuple[Tensor, Tensor]:
    """Section III for one sketch [3, H, W]: f, by eq. 1 to 4 at each landmark, and the responses."""
    inner = encoder.encoder
    assert isinstance(inner, Backbone)
    features = inner.feature_map(image[None])[0]
    channels, height, width = features.shape
    lines = (image.mean(0) < 0.5)[None]
    pooled = torch.zeros(channels)
    for n, (x, y) in enumerate(farthest_points(lines, encoder.landmarks)[0].tolist()):
        column = place_of(x, image.shape[2], width, encoder.projection)
        row = place_of(y, image.shape[1], height, encoder.projection)
        dx = dy = 0.0
        if encoder.offsets is not None:
            weight, bias = encoder.offsets.weight[:, :, 0, 0], encoder.offsets.bias
            assert bias is not None
            own = features[:, math.floor(row + 0.5), math.floor(column + 0.5)]
            dx, dy = (float(weight[2 * n + k] @ own + bias[2 * n + k]) for k in range(2))
        for j in range(height):
            for i in range(width):
                pooled += max(0.0, 1 - abs(column + dx - i)) * max(0.0, 1 - abs(row + dy - j)) * features[:, j, i]
    f = inner.embedding(pooled / encoder.landmarks)
    assert encoder.filters is not None
    responses = F.conv2d(features[None], encoder.filters.weight, padding=1)[0]
    return f, responses


@torch.no_grad()
@pytest.mark.parametrize("projection", ["centre", "floor", "ceil"])
@pytest.mark.parametrize("offsets", [True, False])
def test_a_sketch_is_pooled_at_its_landmarks(offsets: bool, projection: str) -> None:
    encoder = landmark(flip=False, offsets=offsets, grid=8, projection=projection)
    batch = drawings(3)
    batch = Batch(batch.images, torch.zeros(3, dtype=torch.int64), batch.category, batch.instance)
    features = encoder(batch)
    for b in range(3):
        f, responses = literal(encoder, batch.images[b])
        torch.testing.assert_close(features.embedding[b], f, rtol=1e-4, atol=1e-5)
        f_s = responses.amax(0).flatten()
        assert f_s.shape == (64,)
        torch.testing.assert_close(features.vector[b], F.normalize(torch.cat([f, f_s]), dim=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features.images["responses"][b], responses, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features.rows["class_logits"][b], responses.mean((1, 2)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_photos_enter_as_their_edge_map() -> None:
    batch = drawings(2)
    sketches = Batch(as_drawing(sobel(batch.images)), torch.zeros_like(batch.modality), batch.category, batch.instance)
    photos = Batch(batch.images, torch.ones_like(batch.modality), batch.category, batch.instance)
    encoder = landmark(landmarks=0)
    torch.testing.assert_close(encoder(photos).vector, encoder(sketches).vector)
    edged = Batch(sketches.images, photos.modality, batch.category, batch.instance)
    torch.testing.assert_close(landmark(landmarks=0, edges="given")(edged).vector, encoder(sketches).vector)


@torch.no_grad()
def test_in_eval_mode_an_image_and_its_mirror_image_are_averaged() -> None:
    encoder, alone, batch = landmark(), landmark(flip=False), drawings()
    mirrored = Batch(batch.images.flip(-1), batch.modality, batch.category, batch.instance)
    whole, one, other = encoder(batch), alone(batch), alone(mirrored)
    torch.testing.assert_close(whole.embedding, (one.embedding + other.embedding) / 2)
    torch.testing.assert_close(whole.rows["class_logits"], (one.rows["class_logits"] + other.rows["class_logits"]) / 2)
    torch.testing.assert_close(encoder(batch).vector, encoder(mirrored).vector)
    assert not torch.allclose(alone(batch).vector, alone(mirrored).vector)


def test_the_gradient_reaches_offsets_and_filters() -> None:
    torch.manual_seed(0)
    encoder = Landmark(encoder=Backbone(backbone="test_resnet", pretrained=False, dim=8, output_stride=8), landmarks=5, filters=3).train()
    assert encoder.offsets is not None
    assert encoder.filters is not None
    assert not bool(encoder.offsets.weight.any())  # the points begin where they are
    features = encoder(drawings())
    torch.testing.assert_close(features.images["moved"], features.images["points"])
    features.vector.square().cumsum(1).sum().backward()
    for weight in (encoder.offsets.weight, encoder.filters.weight):
        assert weight.grad is not None
        assert bool(weight.grad.isfinite().all())
        assert bool((weight.grad != 0).any())


def test_the_gradient_of_an_offset_agrees_with_differences() -> None:
    encoder, batch = landmark(flip=False), drawings()
    assert encoder.offsets is not None
    weight = encoder.offsets.weight
    encoder(batch).embedding.square().sum().backward()
    assert weight.grad is not None
    direction = weight.grad / weight.grad.norm()

    def looked(step: float) -> float:
        with torch.no_grad():
            weight.add_(direction, alpha=step)
            energy = float(encoder(batch).embedding.double().square().sum())
            weight.sub_(direction, alpha=step)
        return energy

    assert (looked(1e-3) - looked(-1e-3)) / 2e-3 == pytest.approx(float(weight.grad.norm()), rel=0.02)


@torch.no_grad()
def test_the_points_of_a_photo_lie_on_its_edges() -> None:
    images = torch.full((1, 3, 64, 64), 0.8)
    images[:, :, 20:44, 16:48] = 0.3
    label = torch.zeros(1, dtype=torch.int64)
    points = landmark(landmarks=12)(Batch(images, torch.tensor([PHOTO]), label, label)).images["points"][0]
    x, y = points.T
    nearest = torch.stack([(x - 15.5).abs(), (x - 47.5).abs(), (y - 19.5).abs(), (y - 43.5).abs()]).amin(0)
    assert bool((nearest <= 2.5).all())
    assert len({tuple(p) for p in points.tolist()}) == 12


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "width"), [({"filters": 0}, 8), ({"descriptor": "categories"}, 11), ({"grid": 2}, 12), ({"landmarks": 0}, 72)]
)
def test_the_vector_is_what_the_options_say(options: dict[str, Any], width: int) -> None:
    encoder = landmark(**options)
    features = encoder(drawings())
    assert encoder.vector_dim == width
    assert features.vector.shape == (4, width)
    torch.testing.assert_close(features.vector.norm(dim=1), torch.ones(4))
    assert encoder.provides == set(features.images) | set(features.extra) | set(features.rows)


@torch.no_grad()
def test_without_landmarks_and_filters_it_is_the_backbone() -> None:
    encoder = landmark(landmarks=0, filters=0, flip=False)
    batch = drawings()
    batch = Batch(batch.images, torch.zeros_like(batch.modality), batch.category, batch.instance)
    torch.testing.assert_close(encoder(batch).embedding, encoder.encoder(batch).embedding)


@torch.no_grad()
@pytest.mark.parametrize("landmarks", [0, 5])
def test_double_precision_stays(landmarks: int) -> None:
    encoder, batch = landmark(landmarks=landmarks), drawings()
    expected = encoder(batch)
    features = encoder.double()(batch)
    assert features.vector.dtype == features.embedding.dtype == features.rows["class_logits"].dtype == torch.float64
    torch.testing.assert_close(features.vector, expected.vector.double(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_responses_may_be_rectified() -> None:
    assert float(landmark(responses="relu")(drawings()).images["responses"].min()) == 0.0
    assert float(landmark()(drawings()).images["responses"].min()) < 0.0


@torch.no_grad()
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("edges", ["sobel", "canny"])
def test_blank_pictures_of_either_modality_have_finite_vectors(value: float, edges: str) -> None:
    batch = drawings(2)
    blank = Batch(torch.full_like(batch.images, value), batch.modality, batch.category, batch.instance)
    features: Features = landmark(edges=edges)(blank)
    assert bool(features.vector.isfinite().all())


@torch.no_grad()
def test_a_sketch_of_fewer_pixels_than_landmarks_has_them_twice() -> None:
    batch = drawings(1)
    batch.images.fill_(1.0)
    batch.images[0, :, 20, 30] = 0.0
    assert landmark()(batch).images["points"][0].tolist() == [[30.0, 20.0]] * 5


@torch.no_grad()
@pytest.mark.parametrize("points", ["random", "grid"])
def test_controls_have_the_same_landmarks_in_every_image(points: str) -> None:
    encoder, batch = landmark(points=points, landmarks=16), drawings()
    first = encoder(batch).images["points"]
    assert bool((first == first[0]).all())
    assert len({tuple(p) for p in first[0].tolist()}) == 16
    assert 0 <= float(first.min()) <= float(first.max()) < 64
    places = landmark_pool(torch.ones(4, 1, 8, 8), project(first, (64, 64), (8, 8)))
    torch.testing.assert_close(places, torch.ones(4, 1))


def test_random_landmarks_come_from_the_seed_and_are_saved() -> None:
    one = landmark(points="random")
    torch.manual_seed(1)
    other = Landmark(encoder=Backbone(backbone="test_resnet", pretrained=False), landmarks=5, filters=0, points="random")
    assert not torch.equal(one.fractions, other.fractions)
    assert torch.equal(one.state_dict()["fractions"], landmark(points="random").fractions)
    assert "fractions" not in landmark().state_dict()


def test_more_landmarks_than_cells_are_refused() -> None:
    with pytest.raises(
        InputError, match="65 landmarks are more than the 8 x 8 cells of the map of test_resnet: take fewer landmarks, larger"
    ):
        landmark(landmarks=65)(drawings())


def test_it_is_refused_around_what_has_no_map() -> None:
    class Other(Encoder):
        dim = vector_dim = 4

    with pytest.raises(InputError, match="pools the map of a backbone, and Other gives none"):
        Landmark(encoder=Other())
    with pytest.raises(InputError, match="choose a convolutional backbone"):
        Landmark(encoder=Backbone(backbone="test_vit", pretrained=False, dim=8), landmarks=1, filters=2).eval()(drawings(size=160))
    with pytest.raises(InputError, match="has 576 channels, and its embedding reads 1024: pool a stage"):
        Landmark(encoder=Backbone(backbone="mobilenetv3_small_100", pretrained=False, dim=8))


def test_a_module_without_a_map_is_refused() -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match="Sequential has no forward_features"):
        Landmark(encoder=Backbone(backbone=module, dim=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": "hed"}, "edges = 'hed': expected one of"),
        ({"responses": "relo"}, "responses = 'relo': expected one of .*; did you mean 'relu'"),
        ({"descriptor": "cell"}, "descriptor = 'cell': expected one of .*; did you mean 'cells'"),
        ({"landmarks": -1}, "landmarks = -1: expected a whole number of at least 0"),
        ({"grid": 0}, "grid = 0: expected a whole number of at least 1"),
        ({"projection": "center"}, "projection = 'center': expected one of .*; did you mean 'centre'"),
        ({"points": "ink"}, "points = 'ink': expected one of 'lines', 'random', 'grid'"),
        ({"stage": 3}, "test_resnet has no stage of stride 3: its stages have strides 2, 4, 8"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        landmark(**options)
