import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from benchmarks.perturbations import as_jpeg, blurred
from wds_bone.model.quality import GRAYS_PER_UNIT, add_noise, compress, erase, sharpen

NOTHING, BOX = torch.zeros(3), torch.tensor([[0.5, 0.25, 1.0, 0.0]]).expand(3, 4)


def images(num: int = 3, *, height: int = 36, width: int = 44) -> Tensor:
    """Return smooth images with some detail, from 0 to 1."""
    ramp = torch.linspace(0.2, 0.8, width).expand(num, 1, height, width)
    return ramp + 0.05 * torch.randn(num, 1, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "change",
    [
        sharpen,
        partial(add_noise, place=torch.tensor([0.1, 0.5, 0.9])),
        compress,
        lambda image, strength: erase(image, BOX * strength[:, None], torch.zeros(3)),
    ],
    ids=["sharpen", "add_noise", "compress", "erase"],
)
def test_a_strength_of_0_changes_nothing_and_others_change_their_image_only(change: Callable[[Tensor, Tensor], Tensor]):
    image = images()
    torch.testing.assert_close(change(image, NOTHING), image, atol=1e-6, rtol=0)
    second = change(image, torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(second[[0, 2]], image[[0, 2]], atol=1e-6, rtol=0)
    assert (second[1] - image[1]).abs().max() > 0.005


def test_negative_sharpness_is_the_binomial_blur_and_positive_the_opposite():
    image = torch.randint(0, 256, (2, 1, 9, 11), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    soft, sharp = sharpen(image.float(), torch.tensor([-1.0, -1.0])), sharpen(image.float(), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(soft, blurred(image).float(), atol=0.51, rtol=0)
    torch.testing.assert_close((soft + sharp) / 2, image.float(), atol=1e-4, rtol=0)


def test_noise_has_its_standard_deviation_and_differs_between_places():
    flat = torch.zeros(2, 1, 64, 64)
    noise = add_noise(flat, torch.tensor([0.1, 0.1]), torch.tensor([0.2, 0.999999]))
    assert noise.std((1, 2, 3)).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    assert torch.corrcoef(noise.flatten(1))[0, 1].abs() < 0.1


@pytest.mark.parametrize("quality", [30, 50, 90])
def test_compression_is_that_of_a_jpeg_file(quality: int):
    image = (images(1, height=40, width=48) * 200).round().clamp(0, 255)
    ours = compress(image / GRAYS_PER_UNIT, torch.tensor([100.0 - quality])) * GRAYS_PER_UNIT
    theirs = as_jpeg(image.to(torch.uint8), quality).float()
    assert (ours - theirs).abs().mean() < 0.7  # theirs is rounded to whole gray values
    assert (ours - image).abs().mean() > 1.0


def test_compression_rounds_an_image_in_the_same_way_in_any_batch():
    image, loss = images(40, height=100, width=100), torch.linspace(1.0, 90.0, 40)
    together = compress(image, loss)
    for part in (slice(0, 1), slice(3, 20), slice(39, 40)):
        assert torch.equal(compress(image[part], loss[part]), together[part])


def test_a_box_is_erased_where_it_is_and_nowhere_else():
    image = torch.zeros(1, 1, 8, 8)
    erased = erase(image, torch.tensor([[0.5, 0.25, 1.0, 0.0]]), torch.tensor([0.7]))
    assert erased[0, 0, 4:, :2].flatten().tolist() == pytest.approx([0.7] * 8)
    assert math.isclose(erased.sum().item(), 0.7 * 8, rel_tol=1e-6)
