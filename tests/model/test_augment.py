import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wds_bone.model.augment import Ranges, _tones, augment, uniform_draws
from wds_bone.model.exposure import BRIGHT
from wds_bone.model.preprocess import OLD_NORMALIZATION, Preprocessing
from wds_bone.shards.manifest import ImageFormat

RANGES = Ranges(
    flip=True,
    turn_degrees=15,
    scale=0.1,
    shift=0.05,
    contrast=0.2,
    brightness=0.1,
    gamma=0.2,
    saturation=0.05,
    sharpness=1,
    clahe=3.0,
    noise=0.05,
    jpeg=50,
    frame=0.1,
    erase=0.3,
)
GOLDEN = [[8797065, 5069051, 15787297], [75596, 8971967, 8930946]]


def random_images(num: int, size: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (num, 1, size, size), generator=generator, dtype=torch.uint8)


def stored(height: int, width: int) -> Preprocessing:
    """Return a preprocessing that keeps the stored size."""
    return Preprocessing(ImageFormat("png", height, width), height, width)


SQUARE = stored(24, 24)


@given(
    positions=st.lists(st.integers(0, 1 << 40), min_size=1, max_size=6, unique=True),
    index=st.integers(0, 5),
    seed=st.integers(0, (1 << 31) - 1),
)
@settings(max_examples=25, deadline=None)
def test_a_sample_is_augmented_the_same_way_in_any_batch(positions: list[int], index: int, seed: int):
    index %= len(positions)
    image, position = random_images(len(positions)), torch.tensor(positions)
    together = augment(image, position, preprocessing=SQUARE, seed=seed, ranges=RANGES)[index]
    row = slice(index, index + 1)
    alone = augment(image[row], position[row], preprocessing=SQUARE, seed=seed, ranges=RANGES)[0]
    assert torch.equal(together, alone)


@given(seed=st.integers(0, (1 << 31) - 1), position=st.integers(0, 1 << 40))
@settings(max_examples=50, deadline=None)
def test_draws_depend_only_on_the_seed_and_the_position(seed: int, position: int):
    alone = uniform_draws(seed, torch.tensor([position]), num_draws=8)
    in_batch = uniform_draws(seed, torch.tensor([7, position, 9]), num_draws=8)
    assert torch.equal(alone[0], in_batch[1])
    assert not torch.equal(alone, uniform_draws(seed + 1, torch.tensor([position]), num_draws=8))
    assert not torch.equal(alone, uniform_draws(seed, torch.tensor([position + 1]), num_draws=8))


def test_draws_are_the_same_on_every_machine_and_in_every_version():
    """Golden numbers: a change needs a note that older checkpoints resume with different augmentation."""
    draws = uniform_draws(7, torch.tensor([0, 12610]), num_draws=3)
    assert (draws * (1 << 24)).int().tolist() == GOLDEN


def test_draws_are_uniform_and_not_correlated():
    draws = uniform_draws(0, torch.arange(20_000), num_draws=4).double()
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.01)
    assert draws.var(0).tolist() == pytest.approx([1 / 12] * 4, abs=0.002)
    following = torch.cat([draws[:-1], draws[1:]], 1)
    correlations = torch.corrcoef(following.T) - torch.eye(8, dtype=torch.float64)
    assert correlations.abs().max() < 0.03


def test_training_without_changes_sees_exactly_what_evaluation_sees():
    image = random_images(3)
    augmented = augment(image, torch.arange(3), preprocessing=SQUARE, seed=1, ranges=Ranges())
    torch.testing.assert_close(augmented, SQUARE.to_input(image), atol=1e-5, rtol=0)


def test_changes_of_the_geometry_and_quality_are_those_of_any_normalization():
    """A benchmark moves films of older checkpoints, whose normalization does not change the exposure."""
    image, old = random_images(3), Preprocessing(SQUARE.image_format, 24, 24, normalization=OLD_NORMALIZATION)
    augmented = augment(image, torch.arange(3), preprocessing=old, seed=1, ranges=Ranges(flip=True, noise=1e-9))
    evaluated = old.to_input(image)
    for film, as_is in zip(augmented, evaluated, strict=True):
        assert min((film - as_is).abs().max(), (film - as_is.flip(2)).abs().max()) < 1e-5


def films_with_marker(num: int) -> torch.Tensor:
    """Return dark films with a bright center and a white marker at their border, uint8 (num, 1, 24, 24)."""
    films = random_images(num) // 4
    films[..., 6:18, 6:18] += 60
    films[..., :3, 2:8] = 255
    return films


@pytest.mark.parametrize("ranges", [Ranges(), Ranges(gamma=1e-9)], ids=["no tones", "tones"])
def test_markers_at_the_border_are_as_bright_in_training_as_in_evaluation(ranges: Ranges):
    image = films_with_marker(3)
    evaluated = SQUARE.to_input(image)
    assert evaluated[..., 1, 4].min() > evaluated[..., 3:-3, 3:-3].max() + 0.2
    augmented = augment(image, torch.arange(3), preprocessing=SQUARE, seed=1, ranges=ranges)
    torch.testing.assert_close(augmented, evaluated, atol=1e-5, rtol=0)


def test_each_end_is_saturated_in_half_of_the_samples():
    changes = _tones(2.0 * uniform_draws(1, torch.arange(300), num_draws=5) - 1.0, Ranges(saturation=0.1))
    assert changes is not None
    assert changes[:, :2].max() <= 0.1
    for is_saturated in (changes[:, :2] > 0.0).T:
        assert 110 < int(is_saturated.sum()) < 190


def test_the_marker_keeps_its_brightness_where_the_bright_end_is_not_saturated():
    image = films_with_marker(1).expand(300, 1, 24, 24)
    ranges = Ranges(saturation=0.1)
    marker = augment(image, torch.arange(300), preprocessing=SQUARE, seed=1, ranges=ranges)[:, 0, 1, 4]
    is_whole = marker > SQUARE.to_input(image[:1])[0, 0, 1, 4] - 0.05
    assert 110 < int(is_whole.sum()) < 190


def test_half_of_the_samples_are_mirrored_and_not_changed_otherwise():
    image = random_images(1).expand(200, 1, 24, 24)
    ranges = Ranges(flip=True)
    augmented = augment(image, torch.arange(200), preprocessing=SQUARE, seed=1, ranges=ranges)
    evaluated = SQUARE.to_input(image)
    same = (augmented - evaluated).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (augmented - evaluated.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert torch.all(same ^ mirrored)
    assert 70 < int(mirrored.sum()) < 130


@pytest.mark.parametrize(
    "ranges",
    [Ranges(sharpness=1.0), Ranges(clahe=3.0), Ranges(noise=0.05), Ranges(jpeg=60.0), Ranges(frame=0.2)],
    ids=str,
)
def test_each_change_of_the_quality_is_made_in_half_of_the_samples(ranges: Ranges):
    image = random_images(1, size=32).expand(200, 1, 32, 32)
    preprocessing = stored(32, 32)
    augmented = augment(image, torch.arange(200), preprocessing=preprocessing, seed=1, ranges=ranges)
    differences = (augmented - preprocessing.to_input(image)).abs().amax((1, 2, 3))
    assert 70 < int((differences > 1e-5).sum()) < 130


@pytest.mark.parametrize("ranges", [Ranges(clahe=20.0), Ranges(noise=0.1), Ranges(jpeg=80.0)], ids=str)
def test_bars_remain_black_when_a_film_is_changed(ranges: Ranges):
    image = torch.zeros(40, 1, 32, 32, dtype=torch.uint8)
    image[..., 10:22] = random_images(40, size=32)[..., 10:22] // 8
    augmented = augment(image, torch.arange(40), preprocessing=stored(32, 32), seed=1, ranges=ranges)
    evaluated = stored(32, 32).to_input(image)
    assert torch.equal(augmented[..., :8], evaluated[..., :8])
    assert not torch.equal(augmented, evaluated)


def test_rotation_does_not_distort_images_that_are_not_square():
    """A disk remains a disk: the rotation is in pixels, not in the stretched units of the sampling grid."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(64.0), indexing="ij")
    disk = (255 * (((rows - 15.5) ** 2 + (columns - 31.5) ** 2) < 64)).to(torch.uint8)[None, None]
    ranges = Ranges(turn_degrees=45)
    many, wide = disk.expand(20, 1, 32, 64), stored(32, 64)
    rotated = augment(many, torch.arange(20), preprocessing=wide, seed=1, ranges=ranges)
    assert (rotated - wide.to_input(disk)).abs().mean() < 0.01


def test_changes_of_the_exposure_stay_within_their_ranges():
    half_bright = torch.full((500, 1, 20, 20), 10, dtype=torch.uint8)
    half_bright[..., 10:] = 200
    ranges = Ranges(contrast=0.2, brightness=0.1, gamma=0.5)
    augmented = augment(half_bright, torch.arange(500), preprocessing=stored(20, 20), seed=1, ranges=ranges)
    level = augmented[:, 0, 3, 15]
    assert level.min() >= BRIGHT**1.5 * (1 - 0.2) - 0.1 - 1e-6
    assert level.max() <= BRIGHT ** (1 / 1.5) * (1 + 0.2) + 0.1 + 1e-6
    assert level.std() > 0.05


@pytest.mark.parametrize(
    "change",
    [
        {"saturation": 0.2},
        {"sharpness": 1.0},
        {"clahe": 3.0},
        {"noise": 0.05},
        {"jpeg": 60.0},
        {"erase": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_change_of_the_quality_changes_images_and_keeps_their_mean_tone(change: dict[str, float]):
    image = random_images(8, size=32)
    evaluated = stored(32, 32).to_input(image)
    changed = augment(image, torch.arange(8), preprocessing=stored(32, 32), seed=1, ranges=Ranges(**change))
    assert (changed - evaluated).abs().mean((1, 2, 3)).max() > 0.005
    assert changed.mean().item() == pytest.approx(evaluated.mean().item(), abs=0.05)
