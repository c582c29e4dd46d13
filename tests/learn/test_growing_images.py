"""Test the settings that change the images, the loss and the head of a run, on images that are not as small as allowed.

Images that grow have a different size in each of the five steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.learn.runs import NUM_STEPS, SINGLE_RANK, assert_same_state, metrics_of, open_run, train_argv
from tests.sample_sets import write_set
from wds_bone.learn.dry_run import dry_run
from wds_bone.learn.loop import image_fraction, train_step
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import Recipe, TrainConfig, make_recipe
from wds_bone.train import main

GROWING = ("--set", "first_size=0.5")
EVERYTHING = (*GROWING, "rare_ages=1.0", "age_bins=31", "gender_fusion=heads", "accumulate=2")
SIZES = [32, 40, 52, 60, 64]


@pytest.fixture(scope="module")
def large_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 training samples in two shards and 5 validation samples, 64 x 64 pixels."""
    return write_set(tmp_path_factory.mktemp("large") / "shards", size=64, train=[7, 3], val=[5])


@contextmanager
def recorded_sizes(run: Run) -> Iterator[list[int]]:
    """Record the height of the images in every forward pass of the model that is trained."""
    heights: list[int] = []
    hook = run.learner.model.backbone.register_forward_pre_hook(lambda _, args: heights.append(args[0].shape[-2]))
    yield heights
    hook.remove()


def test_the_model_sees_larger_images_in_every_step_until_they_have_their_full_size(large_shards: Path, tmp_path: Path):
    argv = train_argv(large_shards, tmp_path / "run", *GROWING, "accumulate=2")
    with open_run(argv) as run, recorded_sizes(run) as heights:
        for step, batch in zip(range(NUM_STEPS), run.train_stream.endless(), strict=False):
            train_step(run.learner, batch, step=step, recipe=run.recipe, ranks=SINGLE_RANK)
    assert heights == [size for size in SIZES for _ in range(2)]


def test_a_dry_run_measures_steps_of_the_full_size_and_says_that_the_run_takes_at_most_that_long(
    large_shards: Path, tmp_path: Path
):
    with open_run(train_argv(large_shards, tmp_path / "run", *GROWING)) as run, recorded_sizes(run) as heights:
        text = dry_run(run, Progress())
    assert len(heights) >= 4
    assert set(heights) == {64}
    (duration,) = (line for line in text.splitlines() if line.startswith("duration"))
    assert "at most 0:" in duration
    assert "s per step of full size, " in duration


@pytest.mark.slow
@pytest.mark.fault("F4")
def test_a_run_with_growing_images_and_another_loss_resumes_at_every_step_bit_for_bit(
    large_shards: Path, tmp_path: Path
):
    assert main(train_argv(large_shards, tmp_path / "whole", *EVERYTHING)) == 0
    for step in range(1, NUM_STEPS + 1):
        assert main(train_argv(large_shards, tmp_path / "parts", *EVERYTHING, "--max-steps", str(step))) == 0
    for name in ("last.pt", "best.pt"):
        assert_same_state(tmp_path / "parts" / name, tmp_path / "whole" / name)
    assert metrics_of(tmp_path / "parts") == metrics_of(tmp_path / "whole")


def recipe_of(first_size: float) -> Recipe:
    """Return a recipe of 300 steps."""
    config = TrainConfig(lr=1e-3, epochs=1, batch_size=1, first_size=first_size)
    return make_recipe(config, num_samples=300, world_size=1)


def test_images_grow_to_their_full_size_in_the_first_two_thirds_of_a_run():
    growing, full = recipe_of(0.5), recipe_of(1.0)
    assert [image_fraction(step, growing) for step in (0, 100, 200, 299)] == pytest.approx([0.5, 0.75, 1.0, 1.0])
    assert {image_fraction(step, full) for step in range(300)} == {1.0}
