"""Presets are settings files of the package."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from tests.learn.runs import SINGLE_RANK, open_run
from tests.sample_sets import write_set
from wds_bone.command_line import parse_config
from wds_bone.commands import TRAIN, VERIFY
from wds_bone.config_file import describe_presets
from wds_bone.errors import ConfigError
from wds_bone.learn.loop import augmented, train_step
from wds_bone.learn.settings import TrainConfig, resolve_config

assert TRAIN.presets is not None
FOLDER, PRESETS = TRAIN.presets, describe_presets(TRAIN.presets)
GPU_PRESETS = [name for name in PRESETS if name.startswith("gpu-")]


def parse(*argv: str) -> TrainConfig:
    return parse_config(TrainConfig, argv, TRAIN)


def test_there_are_presets_for_a_cpu_and_for_a_gpu():
    assert {"quick", "standard", "best"} <= PRESETS.keys()
    assert GPU_PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_file_that_config_can_read(name: str):
    assert parse("--preset", name) == parse("--config", str(FOLDER / f"{name}.toml"))
    assert parse("--preset", name) != TrainConfig()


def test_config_set_and_flags_take_precedence_over_a_preset(tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text("epochs = 3\nlr = 0.5\n")
    parsed = parse("--preset", "gpu-standard", "--config", str(file), "--set", "drop_path=0.2", "--image-size", "128")
    assert (parsed.epochs, parsed.lr, parsed.drop_path, parsed.image_size) == (3, 0.5, 0.2, 128)
    assert parsed.model == "convnext_tiny"


def test_the_presets_for_a_cpu_take_the_multiples_of_the_default_epochs_that_they_name():
    default = resolve_config(replace(TrainConfig(), device="cpu"))
    assert {name: parse("--preset", name).epochs for name in ("quick", "standard", "best")} == {
        "quick": default.epochs // 4,
        "standard": default.epochs,
        "best": 2 * default.epochs,
    }
    assert all(parse("--preset", name).model == default.model for name in ("quick", "standard", "best"))


def changed_augmentation(config: TrainConfig) -> dict[str, tuple[float, float]]:
    """Return the value and the default of each augmentation but flips and erased boxes, which are off by default."""
    names = [field.name for field in fields(TrainConfig) if field.name.startswith("augment_")]
    kept = [name for name in names if name not in ("augment_flip", "augment_erase")]
    return {name: (getattr(config, name), getattr(TrainConfig(), name)) for name in kept}


def test_gpu_standard_has_light_augmentation_of_every_kind():
    light = changed_augmentation(parse("--preset", "gpu-standard"))
    assert all(0 < value < default for value, default in light.values()), light


def test_gpu_best_is_gpu_standard_for_longer_with_what_its_text_names():
    standard, best = parse("--preset", "gpu-standard"), parse("--preset", "gpu-best")
    named = {"epochs", "drop_path", "first_layer_rate"}
    differing = {
        field.name for field in fields(TrainConfig) if getattr(best, field.name) != getattr(standard, field.name)
    }
    assert {name for name in differing if not name.startswith("augment_")} == named
    assert (best.epochs, best.drop_path > standard.drop_path) == (2 * standard.epochs, True)
    assert all(value >= default for value, default in changed_augmentation(best).values())


def test_the_presets_for_a_gpu_have_the_loss_of_the_literature():
    assert {parse("--preset", name).age_bins for name in GPU_PRESETS} == {0}


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="invalid choice: 'fast'"):
        parse("--preset", "fast")


def test_the_help_says_what_each_preset_is_for(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse("--help")
    shown = capsys.readouterr().out
    assert all(f"{name} " in shown and text in shown for name, text in PRESETS.items())


def test_commands_without_presets_have_no_such_option():
    with pytest.raises(ConfigError, match="unknown option --preset"):
        parse_config(TrainConfig, ["--preset", "quick"], VERIFY)


@pytest.mark.slow
@pytest.mark.parametrize("name", GPU_PRESETS)
def test_a_preset_for_a_gpu_takes_a_step_on_images_of_its_size(name: str, tmp_path: Path):
    shards = write_set(tmp_path / "shards", size=64, train=[4], val=[2])
    here = ["--train", str(shards), "--init-weights", "none", "--device", "cpu", "--batch-size", "2"]
    with open_run(["--preset", name, *here]) as run:
        size = parse("--preset", name).image_size
        batch = run.train_stream[0]
        assert augmented(run.learner, batch, run.recipe, step=0).shape == (2, 1, size, size)
        before = run.learner.model.head[-1].weight.clone()
        train_step(run.learner, batch, step=0, recipe=run.recipe, ranks=SINGLE_RANK)
        after = run.learner.model.head[-1].weight
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
