"""Test the options of `wds-bone train` and which values are refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.command_line import parse_config
from wds_bone.commands import TRAIN
from wds_bone.errors import ConfigError
from wds_bone.learn.settings import TrainConfig, make_recipe, refuse_indivisible, resolve_config

FLAGS = [
    "--train",
    "--val",
    "--out",
    "--model",
    "--init-weights",
    "--image-size",
    "--epochs",
    "--max-steps",
    "--batch-size",
    "--lr",
    "--dropout",
    "--drop-path",
    "--folds",
    "--fold",
    "--seed",
    "--threads",
    "--device",
    "--precision",
    "--compile",
    "--resume",
    "--cache",
    "--allow-host",
    "--log-every",
    "--dry-run",
    "--preset",
    "--config",
    "--set",
]
UNFLAGGED = [
    "weight_decay",
    "warmup",
    "clip_norm",
    "loss_beta_months",
    "age_bins",
    "rare_ages",
    "gender_fusion",
    "first_layer_rate",
    "first_size",
    "ema",
    "patience",
    "accumulate",
    "freeze_backbone",
    "sync_batch_norm",
    "shuffle_buffer",
    "shuffle_windows",
    "cache_bytes",
    "timeout_seconds",
    "wandb",
    "augment_flip",
    "augment_turn_degrees",
    "augment_scale",
    "augment_shift",
    "augment_contrast",
    "augment_brightness",
    "augment_gamma",
    "augment_saturation",
    "augment_sharpness",
    "augment_clahe",
    "augment_noise",
    "augment_jpeg",
    "augment_frame",
    "augment_erase",
]


def parse(*argv: str) -> TrainConfig:
    return parse_config(TrainConfig, argv, TRAIN)


def test_the_flags_are_exactly_the_documented_ones(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse("--help")
    flags, _, unflagged = capsys.readouterr().out.partition("settings for --set and --config:")
    words = flags.replace(",", " ").replace("[", " ").split()
    shown = {word.strip("[],)") for word in words if word.startswith("--")}
    assert shown - {"--help", "--no-compile", "--no-dry-run"} == set(FLAGS)
    listed, _, example = unflagged.partition("\n\nexample:")
    assert [line.split()[0] for line in listed.strip().splitlines()] == UNFLAGGED
    assert example.strip() == TRAIN.example


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--epochs", "0"),
        ("--batch-size", "-3"),
        ("--max-steps", "0"),
        ("--image-size", "0"),
        ("--threads", "0"),
        ("--log-every", "0"),
        ("--lr", "-0.1"),
        ("--lr", "nan"),
        ("--lr", "inf"),
        ("--dropout", "1"),
        ("--drop-path", "-0.1"),
        ("--fold", "-1"),
        ("--set weight_decay", "inf"),
        ("--set weight_decay", "-1"),
        ("--set ema", "1.0"),
        ("--set accumulate", "0"),
        ("--set warmup", "1"),
        ("--set warmup", "-0.1"),
        ("--set clip_norm", "-1"),
        ("--set loss_beta_months", "-1"),
        ("--set patience", "0"),
        ("--set age_bins", "24"),
        ("--set rare_ages", "1.5"),
        ("--set first_layer_rate", "2"),
        ("--set first_layer_rate", "0"),
        ("--set first_size", "0"),
        ("--set augment_jpeg", "100"),
        ("--set shuffle_windows", "0"),
        ("--set cache_bytes", "0"),
        ("--set timeout_seconds", "0"),
        ("--set augment_scale", "1"),
        ("--set augment_brightness", "inf"),
        ("--seed", "-1"),
        ("--seed", str(1 << 31)),
    ],
)
def test_values_out_of_range_are_refused_with_the_name_of_the_setting(flag: str, value: str):
    argv = ["--set", f"{flag.split()[1]}={value}"] if flag.startswith("--set") else [flag, value]
    with pytest.raises(ConfigError, match=flag):
        parse(*argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["--folds", "5"],
        ["--fold", "0"],
        ["--folds", "1", "--fold", "0"],
        ["--folds", "5", "--fold", "5"],
        ["--folds", "5", "--fold", "0", "--val", "other"],
    ],
)
def test_folds_that_are_out_of_range_or_contradictory_are_refused(argv: list[str]):
    with pytest.raises(ConfigError, match="--fold"):
        parse(*argv)


def test_a_model_is_not_compiled_for_images_that_grow():
    with pytest.raises(ConfigError, match="--compile and --set first_size contradict each other"):
        parse("--compile", "--set", "first_size=0.5")
    assert parse("--compile").first_size == 1.0
    assert not parse("--set", "first_size=0.5").compile


def test_a_resolved_config_contains_no_automatic_settings():
    config = resolve_config(parse("--device", "cpu"))
    assert (config.device, config.model, config.threads) == ("cpu", "residual-16x2222-s2", 1)
    assert config.precision in ("fp32", "bf16")
    assert resolve_config(config) == config


@given(batch_size=st.integers(1, 300), ranks=st.integers(1, 9), parts=st.integers(1, 5))
def test_an_indivisible_batch_size_is_refused_and_the_nearest_divisible_ones_are_suggested(
    batch_size: int, ranks: int, parts: int
):
    unit = ranks * parts
    if batch_size % unit == 0:
        refuse_indivisible(batch_size, num_ranks=ranks, num_parts=parts)
        return
    with pytest.raises(ConfigError, match=f"--batch-size {batch_size}") as refused:
        refuse_indivisible(batch_size, num_ranks=ranks, num_parts=parts)
    named = [int(number) for number in re.findall(r"\d+", refused.value.do)]
    assert named == [size for size in (batch_size // unit * unit, (batch_size // unit + 1) * unit) if size]


def test_a_recipe_holds_the_settings_and_what_follows_from_them():
    config = resolve_config(parse("--device", "cpu", "--batch-size", "6", "--epochs", "10"))
    recipe = make_recipe(config, num_samples=60, world_size=2)
    assert (recipe.num_steps, recipe.global_batch_size, recipe.local_batch_size) == (100, 6, 3)
    assert recipe.ema == recipe.config.ema == pytest.approx(0.9)
    assert recipe.config.lr == recipe.peak_rate == 2e-3
    assert recipe.ranges.turn_degrees == config.augment_turn_degrees
