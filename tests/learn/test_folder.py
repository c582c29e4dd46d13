"""Test what the error for other settings of a run names."""

from typing import Any

import pytest

from wds_bone.command_line import parse_config
from wds_bone.commands import TRAIN
from wds_bone.config import config_as_json
from wds_bone.errors import ConfigError
from wds_bone.learn.folder import describe_changes, refuse_other_run
from wds_bone.learn.settings import TrainConfig, make_recipe, resolve_config

EMA = f"--set ema={1 - 10 / 1250}"
"""The decay that is derived for 40 epochs of 1,000 samples in batches of 32."""


def provenance(*options: str, num_samples: int = 1000) -> dict[str, Any]:
    """Return what identifies a run with these options."""
    argv = ["--device", "cpu", "--precision", "fp32", "--model", "resnet18", *options]
    config = resolve_config(parse_config(TrainConfig, argv, TRAIN))
    recipe = make_recipe(config, num_samples=num_samples, world_size=1)
    samples = {"train": num_samples, "val": 100}
    return {"config": config_as_json(recipe.config), "versions": {"wds_bone": "1.0"}, "samples": samples}


@pytest.mark.fault("F4")
@pytest.mark.parametrize(
    ("options", "expected", "got"),
    [
        (["--epochs", "20"], "--epochs 40", "--epochs 20"),
        (["--batch-size", "8"], "--batch-size 32", "--batch-size 8"),
        (["--set", "ema=0.5"], EMA, "--set ema=0.5"),
        (
            ["--epochs", "20", "--lr", "0.5", "--set", "ema=0.5"],
            f"--epochs 40, --lr 0.002, {EMA}",
            "--epochs 20, --lr 0.5, --set ema=0.5",
        ),
    ],
)
def test_only_the_settings_that_the_user_changed_are_named(options: list[str], expected: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_other_run(provenance(), provenance(*options), where="runs/first")
    assert (caught.value.expected, caught.value.got) == (expected, got)


def test_a_learning_rate_that_was_derived_from_the_model_is_not_named() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_other_run(provenance(), provenance("--model", "convnext_tiny"), where="runs/first")
    assert caught.value.got == "--model convnext_tiny"


def test_a_derived_setting_is_named_if_nothing_else_differs() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_other_run(provenance(), provenance(num_samples=500), where="runs/first")
    assert str(caught.value.expected).startswith("--set ema=0.992")
    refuse_other_run(provenance(), provenance("--max-steps", "3", "--out", "elsewhere"), where="runs/first")


def test_another_version_of_timm_is_reported_if_the_model_is_from_timm() -> None:
    known = {"wds_bone": "1.0", "torch": "2.11", "torchvision": "0.26", "python": "3.12"}
    before, now = ({"versions": known | {"timm": timm}, "code": "same"} for timm in ("1.0.9", "1.0.15"))
    assert describe_changes(before, now) == ["timm 1.0.9 -> 1.0.15"]
    assert describe_changes(before, before) == []
    assert describe_changes({"versions": known, "code": "same"}, {"versions": known, "code": "same"}) == []
