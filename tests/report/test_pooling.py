"""Pool the runs of a cross-validation, whose folders are written here as training writes them."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints import complete_contents
from wds_bone.command_line import parse_config
from wds_bone.commands import TRAIN
from wds_bone.config import config_as_json
from wds_bone.errors import CheckpointError, ConfigError, WdsBoneError
from wds_bone.inference.predictions import Predictions, write_predictions
from wds_bone.learn.settings import TrainConfig, make_recipe, resolve_config
from wds_bone.model.checkpoint import load_checkpoint, save_checkpoint
from wds_bone.report.pooling import pool_predictions, read_folds

SIZES = (4, 3, 3)
TOTAL = sum(SIZES)


def write_fold(folder: Path, fold: int, *options: str, first_key: int | None = None, **more: Any) -> Path:
    """Write the folder of a run whose predictions are `fold` months too high; `more` replaces parts of `best.pt`."""
    argv = ["--folds", str(len(SIZES)), "--fold", str(fold), "--batch-size", "1", "--epochs", "9", "--device", "cpu"]
    num_val = SIZES[fold]
    config = resolve_config(parse_config(TrainConfig, [*argv, "--out", str(folder), *options], TRAIN))
    recipe = make_recipe(config, num_samples=TOTAL - num_val, world_size=1)
    start = sum(SIZES[:fold]) if first_key is None else first_key
    keys = np.arange(start, start + num_val)
    ages = (10 * keys + 50).astype(np.float32)
    folder.mkdir()
    write_predictions(
        folder / "predictions.csv",
        Predictions([f"k{key}" for key in keys], (keys % 2).astype(np.float32), ages, ages + np.float32(fold)),
    )
    contents = {
        "config": config_as_json(recipe.config),
        "samples": {"train": TOTAL - num_val, "val": num_val},
        "progress": {"step": 7, "best_epoch": 9 - fold},
        "predictions_sha256": hashlib.sha256((folder / "predictions.csv").read_bytes()).hexdigest(),
    }
    save_checkpoint(folder / "best.pt", complete_contents(**(contents | more)))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_fold(tmp_path / f"fold-{fold}", fold) for fold in range(len(SIZES))]


def problem_of(folders: list[Path]) -> str:
    with pytest.raises(WdsBoneError) as caught:
        read_folds(folders)
    return str(caught.value)


def test_every_sample_is_pooled_once_in_the_order_of_the_folds(runs: list[Path]) -> None:
    pooled = pool_predictions(read_folds([runs[2], runs[0], runs[1]]))
    assert pooled.key == [f"k{number}" for number in range(TOTAL)]
    assert pooled.gender.tolist() == [number % 2 for number in range(TOTAL)]
    assert pooled.age_months.tolist() == [10 * number + 50 for number in range(TOTAL)]
    assert (pooled.predicted_months - pooled.age_months).tolist() == [0] * 4 + [1] * 3 + [2] * 3
    assert pooled.predicted_months.dtype == np.float32


def test_a_fold_is_described_with_its_error_in_plain_types(runs: list[Path]) -> None:
    described = [fold.describe() for fold in read_folds(runs)]
    assert [(fold["fold"], fold["mae_months"], fold["samples"]["val"]) for fold in described] == [
        (0, 0.0, 4),
        (1, 1.0, 3),
        (2, 2.0, 3),
    ]
    for fold in described:
        json.dumps(fold, allow_nan=False)


def test_a_decay_that_was_derived_from_the_number_of_steps_may_differ(runs: list[Path]) -> None:
    folds = read_folds(runs)
    assert len({fold.provenance["config"]["ema"] for fold in folds}) == 2


def test_a_missing_fold_is_named(runs: list[Path]) -> None:
    assert "got:      folds 0, 2\n  do:       train and add --fold 1" in problem_of([runs[0], runs[2]])


def test_a_fold_that_is_given_twice_is_refused(runs: list[Path]) -> None:
    copy = Path(shutil.copytree(runs[1], runs[1].with_name("copy")))
    assert "a fold is given twice" in problem_of([*runs, copy])
    assert "a fold is given twice" in problem_of([*runs, runs[1]])


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--seed", "1"], "expected: --seed 0\n  got:      --seed 1"),
        (["--max-steps", "2"], "expected: --max-steps not set\n  got:      --max-steps 2"),
        (["--set", "ema=0.5"], "expected: --set ema not set\n  got:      --set ema=0.5"),
    ],
)
def test_runs_with_other_settings_are_refused_with_both_values(
    runs: list[Path], options: list[str], shown: str
) -> None:
    other = write_fold(runs[0].with_name("other"), 2, *options)
    assert shown in problem_of([*runs[:2], other])


def test_settings_that_do_not_change_the_result_may_differ(runs: list[Path]) -> None:
    other = write_fold(runs[0].with_name("other"), 2, "--log-every", "3", "--threads", "2", "--train", "elsewhere")
    assert len(read_folds([*runs[:2], other])) == 3


def test_runs_of_other_versions_or_other_numbers_of_samples_are_refused(runs: list[Path]) -> None:
    newer = write_fold(runs[0].with_name("newer"), 2, versions={"wds_bone": "2.0"})
    assert "expected: wds_bone 0.0, 10 samples\n  got:      wds_bone 2.0, 10 samples" in problem_of([*runs[:2], newer])
    more = write_fold(runs[0].with_name("more"), 2, samples={"train": 7, "val": 4})
    assert "got:      wds_bone 0.0, 11 samples" in problem_of([*runs[:2], more])


def test_a_sample_in_two_folds_is_refused(runs: list[Path]) -> None:
    other = write_fold(runs[0].with_name("other"), 2, first_key=6)
    assert f"got:      'k6' also in {runs[1] / 'predictions.csv'}" in problem_of([*runs[:2], other])


def test_a_run_without_folds_is_refused(runs: list[Path], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", complete_contents())
    with pytest.raises(ConfigError, match="is not a fold of a cross-validation"):
        read_folds([tmp_path, *runs])


def test_a_folder_without_a_run_or_without_predictions_is_refused(runs: list[Path], tmp_path: Path) -> None:
    (runs[2] / "predictions.csv").unlink()
    assert "predictions.csv: cannot be read: No such file" in problem_of(runs)
    with pytest.raises(CheckpointError, match=r"best\.pt: cannot be read"):
        read_folds([tmp_path])


def test_a_run_of_a_version_that_did_not_keep_predictions_is_refused(runs: list[Path]) -> None:
    contents = load_checkpoint(runs[1] / "best.pt")
    save_checkpoint(runs[1] / "best.pt", {name: contents[name] for name in contents if name != "predictions_sha256"})
    (runs[1] / "predictions.csv").unlink()
    assert f"{runs[1] / 'best.pt'}: is of an earlier version" in problem_of(runs)


def test_predictions_of_another_model_are_refused(runs: list[Path]) -> None:
    shutil.copy(runs[0] / "predictions.csv", runs[1] / "predictions.csv")
    assert f"{runs[1] / 'predictions.csv'}: was not predicted by the best.pt next to it" in problem_of(runs)
    assert "train this fold again with a new --out, and use that run" in problem_of(runs)
    (runs[1] / "config.toml").write_text("")
    assert f"run `wds-bone train --config {runs[1]}/config.toml --out {runs[1]}-again`, and use" in problem_of(runs)
