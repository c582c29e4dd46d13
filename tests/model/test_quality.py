import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.perturbations import blurred
from wds_bone.model.quality import erase, sharpen

NOTHING, BOX = torch.zeros(3), torch.tensor([[0.5, 0.25, 1.0, 0.0]]).expand(3, 4)


@pytest.mark.parametrize(
    "change",
    [sharpen, lambda image, strength: erase(image, BOX * strength[:, None], torch.zeros(3))],
    ids=["sharpen", "erase"],
)
def test_a_strength_of_0_changes_nothing_and_others_change_their_image_only(change: Callable[[Tensor, Tensor], Tensor]):
    image = torch.rand(3, 1, 36, 44, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(change(image, NOTHING), image, atol=1e-6, rtol=0)
    second = change(image, torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(second[[0, 2]], image[[0, 2]], atol=1e-6, rtol=0)
    assert (second[1] - image[1]).abs().max() > 0.005


def test_negative_sharpness_is_the_binomial_blur_and_positive_the_opposite():
    image = torch.randint(0, 256, (2, 1, 9, 11), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    soft, sharp = sharpen(image.float(), torch.tensor([-1.0, -1.0])), sharpen(image.float(), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(soft, blurred(image).float(), atol=0.51, rtol=0)
    torch.testing.assert_close((soft + sharp) / 2, image.float(), atol=1e-4, rtol=0)


def test_a_box_is_erased_where_it_is_and_nowhere_else():
    image = torch.zeros(1, 1, 8, 8)
    erased = erase(image, torch.tensor([[0.5, 0.25, 1.0, 0.0]]), torch.tensor([0.7]))
    assert erased[0, 0, 4:, :2].flatten().tolist() == pytest.approx([0.7] * 8)
    assert math.isclose(erased.sum().item(), 0.7 * 8, rel_tol=1e-6)
