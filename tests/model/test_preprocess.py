import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.model.preprocess import OLD_NORMALIZATION, Preprocessing, normalize_exposure, plan_preprocessing
from wds_bone.shards.manifest import ImageFormat

STORED = ImageFormat("jpg", 40, 60, quality=95, fit="letterbox", stretch=(1.0, 99.0))


def random_images(num: int, *, height: int = 40, width: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(10, 120, (num, 1, height, width), generator=generator, dtype=torch.uint8)


def test_the_old_normalization_sets_the_darkest_pixel_to_0_and_the_99th_percentile_to_1():
    normalized = normalize_exposure(random_images(3).float())
    assert torch.equal(normalized.amin((1, 2, 3)), torch.zeros(3))
    assert (normalized <= 1).float().mean((1, 2, 3)) == pytest.approx(torch.full((3,), 0.99), abs=0.01)


def test_the_input_keeps_the_stored_size_and_the_range_of_the_normalized_exposure():
    prepared = plan_preprocessing(STORED, None).to_input(random_images(3))
    assert prepared.shape == (3, 1, 40, 60)
    assert prepared.dtype == torch.float32
    assert prepared.min() >= 0
    assert prepared.max() <= 1.5


@given(gain=st.sampled_from([1, 2]), offset=st.integers(0, 15))
@settings(max_examples=10, deadline=None)
def test_another_exposure_of_the_same_image_gives_the_same_input(gain: int, offset: int):
    plan = plan_preprocessing(STORED, None)
    image = random_images(2)
    torch.testing.assert_close(plan.to_input(image), plan.to_input(image * gain + offset), atol=1e-5, rtol=1e-5)


def test_a_smaller_input_shows_a_thin_marker_equally_bright_whether_a_stretch_saturates_it_or_not():
    image = torch.full((1, 1, 40, 60), 10, dtype=torch.uint8)
    image[..., 8:32, 12:48] = random_images(1, height=24, width=36)
    marked, saturated = image.clone(), image.clone()
    marked[..., 2:7, 2:10:3], saturated[..., 2:7, 2:10:3] = 255, 240
    plan = plan_preprocessing(STORED, 48)
    assert plan.to_input(marked)[..., 2:6, 2:8].max() > 0.3
    torch.testing.assert_close(plan.to_input(saturated), plan.to_input(marked))


def test_normalizing_an_image_does_not_depend_on_the_rest_of_the_batch():
    plan = plan_preprocessing(STORED, 48)
    image = random_images(5)
    assert torch.equal(plan.to_input(image)[2:3], plan.to_input(image[2:3]))


@pytest.mark.parametrize("level", [0, 77, 255])
def test_an_image_of_a_single_gray_value_becomes_black(level: int):
    image = torch.full((1, 1, 40, 60), level, dtype=torch.uint8)
    assert torch.equal(plan_preprocessing(STORED, None).to_input(image), torch.zeros(1, 1, 40, 60))


def test_the_image_size_is_that_of_the_longer_side_and_keeps_the_aspect_ratio():
    plan = plan_preprocessing(STORED, 48)
    assert (plan.height, plan.width) == (32, 48)
    assert plan.to_input(random_images(1)).shape == (1, 1, 32, 48)


def test_the_stored_size_is_kept_when_no_size_is_given():
    plan = plan_preprocessing(STORED, None)
    assert (plan.height, plan.width) == (40, 60)


def test_images_too_small_for_any_model_are_refused():
    with pytest.raises(ConfigError, match="too small") as refused:
        plan_preprocessing(STORED, 40)
    assert refused.value.got == 27


def test_the_description_survives_a_round_trip_through_json():
    plan = plan_preprocessing(STORED, 48)
    assert Preprocessing.from_json(plan.to_json()) == plan
    assert plan.to_json()["image_format"]["stretch"] == [1.0, 99.0]


def test_older_checkpoints_keep_their_normalization():
    old = Preprocessing(STORED, 40, 60, normalization=OLD_NORMALIZATION, phase_pixels=0.0)
    restored, image = Preprocessing.from_json(old.to_json()), random_images(3)
    assert restored == old
    assert torch.equal(restored.to_input(image), normalize_exposure(image.float()))
    assert not torch.equal(restored.to_input(image), plan_preprocessing(STORED, None).to_input(image))


def test_a_normalization_of_another_version_is_refused():
    description = {**plan_preprocessing(STORED, None).to_json(), "normalization": "histogram"}
    with pytest.raises(CheckpointError, match="different normalization"):
        Preprocessing.from_json(description)


def test_another_geometry_is_refused_and_another_encoding_is_accepted():
    plan = plan_preprocessing(STORED, None)
    plan.refuse_other_format(ImageFormat("png", 40, 60, fit="letterbox", stretch=(1.0, 99.0)), where="test shards")
    with pytest.raises(ConfigError, match="test shards") as refused:
        plan.refuse_other_format(ImageFormat("jpg", 40, 40, fit="letterbox", stretch=(1.0, 99.0)), where="test shards")
    assert "width 60" in str(refused.value.expected)
    assert "width 40" in str(refused.value.got)


def test_images_of_a_fraction_of_the_size_keep_their_tones_and_are_not_enlarged():
    plan, image = Preprocessing(STORED, 40, 60), random_images(2)
    assert (plan.reduced(0.8).height, plan.reduced(0.8).width) == (32, 48)
    assert (plan.reduced(0.5).height, plan.reduced(0.5).width) == (32, 32)
    assert plan.reduced(1.0) == plan
    assert plan.reduced(0.8).to_input(image).shape == (2, 1, 32, 48)
    small = Preprocessing(STORED, 24, 24)
    assert small.reduced(0.5) == small
