import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.perturbations import CLAHE_LIMIT, equalized_locally
from wds_bone.model.clahe import equalize_locally
from wds_bone.phantom import draw_hand, synthetic_hands


def films(*, size: int) -> Tensor:
    hands = [draw_hand(hand, size) for hand in synthetic_hands(3, seed=0)]
    return torch.from_numpy(np.stack(hands))[:, None]


@pytest.mark.parametrize(("height", "width", "tolerance"), [(96, 96, 0.01), (100, 100, 2.5), (90, 67, 2.5)])
def test_images_are_equalized_as_by_the_reference(height: int, width: int, tolerance: float):
    """The tiles of the reference have other borders if the size is not a multiple of their number."""
    image = films(size=100)[..., :height, :width]
    expected = equalized_locally(image)
    equalized = equalize_locally(image, torch.full((3,), CLAHE_LIMIT))
    assert (equalized.int() - expected.int()).abs().float().mean() < tolerance
    assert (equalized.int() - image.int()).abs().float().mean() > 8


def test_a_slope_of_0_changes_nothing_and_others_change_their_image_only():
    image = films(size=96)
    changed = equalize_locally(image, torch.tensor([0.0, 2.0, 0.0]))
    assert torch.equal(changed[[0, 2]], image[[0, 2]])
    assert torch.equal(changed[1:2], equalize_locally(image[1:2], torch.tensor([2.0])))
    assert not torch.equal(changed[1], image[1])


@pytest.mark.parametrize(("height", "width"), [(100, 100), (90, 67), (33, 40)])
def test_all_sides_of_an_image_are_treated_alike(height: int, width: int):
    image = films(size=100)[..., :height, :width]
    slope = torch.full((3,), 2.0)
    mirrored = equalize_locally(image.flip(2, 3), slope).flip(2, 3)
    assert (mirrored.int() - equalize_locally(image, slope).int()).abs().float().mean() < 4


def test_a_steeper_limit_amplifies_contrast_more():
    image = films(size=96)
    equalized = [equalize_locally(image, torch.full((3,), slope)).float() for slope in (0.5, 1.5, 4.0)]
    contrasts = [(film[..., 1:] - film[..., :-1]).abs().mean().item() for film in equalized]
    assert contrasts == sorted(contrasts)
