"""Films that training only moves are as sharp as those in validation and prediction."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.learn.runs import open_run, train_argv
from tests.sample_sets import write_set
from wds_bone.learn.learner import predictor_of
from wds_bone.learn.loop import augmented
from wds_bone.learn.run import Run
from wds_bone.model.loss import Target
from wds_bone.stream.batch import Batch

SIZE = 64
CHANGES = (
    "contrast",
    "brightness",
    "gamma",
    "saturation",
    "sharpness",
    "clahe",
    "noise",
    "jpeg",
    "frame",
)


class Sharpness(nn.Module):
    """A model whose prediction is the mean squared difference of neighboring pixels in the middle of the image."""

    def forward(self, image: Tensor, gender: Tensor) -> Tensor:
        border = image.shape[2] // 4
        middle = image[:, 0, border:-border, border:-border]
        across, down = middle.diff(dim=2), middle.diff(dim=1)
        return across.square().mean((1, 2)) + down.square().mean((1, 2)) + 0 * gender


def films_with_texture(num: int) -> Tensor:
    """Return films of noise, whose power is the same at all frequencies, uint8 (num, 1, SIZE, SIZE)."""
    return torch.randint(0, 256, (num, 1, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def batch_of(image: Tensor) -> Batch:
    num = len(image)
    ones = torch.ones(num)
    return Batch(image, gender=ones, age_months=ones, weight=ones, position=torch.arange(num), key=["film"] * num)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set") / "shards", size=SIZE, train=[4], val=[4])


@pytest.fixture(params=[SIZE, SIZE // 2], ids=["stored size", "half of it"])
def run(request: pytest.FixtureRequest, shards: Path, tmp_path: Path) -> Iterator[Run]:
    """A run with the default ranges of the geometry, and without changes of exposure and quality."""
    unchanged = [part for name in CHANGES for part in ("--set", f"augment_{name}=0")]
    with open_run(train_argv(shards, tmp_path, "--image-size", str(request.param), *unchanged)) as opened:
        yield opened


def sharpness_in_training(run: Run, image: Tensor) -> Tensor:
    return Sharpness()(augmented(run.learner, batch_of(image), run.recipe, step=0), torch.zeros(len(image)))


def sharpness_in_evaluation(run: Run, image: Tensor) -> Tensor:
    measuring = replace(predictor_of(run.learner), model=Sharpness(), target=Target(mean_months=0.0, sd_months=1.0))
    return measuring.predict_months(image, torch.zeros(len(image)))


def test_moved_films_are_as_sharp_as_films_in_place_are_afterwards(run: Run):
    image = films_with_texture(200)
    training, evaluation = sharpness_in_training(run, image), sharpness_in_evaluation(run, image)
    assert training.mean().item() == pytest.approx(evaluation.mean().item(), rel=0.03)
