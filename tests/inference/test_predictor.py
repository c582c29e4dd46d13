"""Test the views that are averaged; `test_epoch` tests the rest."""

from dataclasses import replace

import pytest
import torch

from tests.inference.test_ensemble import images
from tests.report.trained import LETTERBOXED, write_checkpoint
from wds_bone.inference.ensemble import load_ensemble
from wds_bone.inference.predictor import Predictor


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt", LETTERBOXED)
    return load_ensemble([path], device="cpu", views="tta").members[0].predictor


def test_more_views_change_the_prediction_but_little(moving: Predictor) -> None:
    image, gender = images(8), torch.zeros(8)
    more, plain = (replace(moving, views=views).predict_months(image, gender) for views in ("tta", "mirror"))
    assert torch.all(more != plain)
    assert (more - plain).abs().mean() < plain.std() / 4


def test_more_views_of_a_disk_see_a_disk(moving: Predictor) -> None:
    """Turning a disk changes nothing, so only the zooms are left, and these see another radius."""
    radius = torch.hypot(*torch.meshgrid(*(torch.arange(32.0) - 15.5,) * 2, indexing="ij"))
    disk = (255 * (12 - radius).clamp(0, 1)).to(torch.uint8).expand(1, 1, 32, 32)
    plain, *moved = (
        moving.preprocessing.to_input(disk, moves) for moves in [None, *moving._moves(torch.device("cpu"))]
    )
    areas = [float(view.mean() / plain.mean()) for view in moved]
    assert areas == pytest.approx([1, 1, 0.95**-2, 1.05**-2], abs=0.03)
    assert (moved[0] - plain).abs().mean() < 0.02
