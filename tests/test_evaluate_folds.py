"""`wds-bone evaluate --runs`: the folds of a cross-validation as one table."""

import json
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from tests.learn.runs import train_argv, write_small_set
from tests.report.test_pooling import SIZES, TOTAL, write_fold
from wds_bone.evaluate import main
from wds_bone.inference.predictions import read_predictions
from wds_bone.train import main as train

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the folders of three runs, whose predictions are 0, 1 and 2 months too high."""
    folder = tmp_path_factory.mktemp("folds")
    return [write_fold(folder / f"fold-{fold}", fold) for fold in range(len(SIZES))]


@pytest.fixture(scope="module")
def pooled(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the evaluation of these runs, with what it printed in `printed.txt` next to it."""
    out = tmp_path_factory.mktemp("evaluation") / "pooled"
    with (out.parent / "printed.txt").open("w") as file, redirect_stdout(file):
        assert evaluate(runs, out) == 0
    return out


def evaluate(runs: list[Path], out: Path, *options: str) -> int:
    return main(["--runs", *map(str, runs), "--out", str(out), *options])


def test_the_folds_are_measured_as_one_table(pooled: Path) -> None:
    predictions = read_predictions(pooled / "predictions.csv")
    metrics = json.loads((pooled / "metrics.json").read_text())
    assert len(predictions.key) == len(set(predictions.key)) == TOTAL
    assert metrics["errors"]["all"]["num_samples"] == TOTAL
    assert metrics["errors"]["all"]["mae_months"] == pytest.approx((3 * 1 + 3 * 2) / TOTAL)
    assert [run["mae_months"] for run in metrics["runs"]] == [0.0, 1.0, 2.0]
    out = (pooled.parent / "printed.txt").read_text()
    assert "MAE of the 3 folds: 0.00, 1.00, 2.00; mean 1.00, standard deviation 1.00" in out
    assert "(their models are from epochs 9, 8, 7 of 9)" in out
    assert str(pooled / "metrics.json") in out


def test_the_order_of_the_runs_has_no_effect(runs: list[Path], pooled: Path, tmp_path: Path) -> None:
    assert evaluate(runs[::-1], tmp_path / "reversed") == 0
    for path in pooled.iterdir():
        assert path.read_bytes() == (tmp_path / "reversed" / path.name).read_bytes()


@pytest.mark.fault("E5")
def test_an_incomplete_cross_validation_is_refused(runs: list[Path], tmp_path: Path, capsys: Captured) -> None:
    assert evaluate(runs[:2], tmp_path / "pooled") == 2
    assert "do:       train and add --fold 2" in capsys.readouterr().err
    assert not (tmp_path / "pooled").exists()


def test_two_cross_validations_are_compared_by_key(runs: list[Path], pooled: Path, tmp_path: Path) -> None:
    assert evaluate(runs, tmp_path / "out", "--against", str(pooled)) == 0
    compared = json.loads((tmp_path / "out" / "metrics.json").read_text())["against"]
    assert (compared["num_samples"], compared["mae_difference_months"]) == (TOTAL, 0.0)


@pytest.mark.slow
def test_a_run_whose_predictions_have_changed_is_trained_again_by_the_command_in_the_error(
    tmp_path: Path, capsys: Captured
) -> None:
    shards = write_small_set(tmp_path / "shards")
    runs = [tmp_path / f"my fold-{fold}" for fold in range(2)]
    for fold, run in enumerate(runs):
        assert train(train_argv(shards, run, "--folds", "2", "--fold", str(fold))) == 0
    expected = (runs[1] / "predictions.csv").read_bytes()
    (runs[1] / "predictions.csv").write_bytes(expected + b"one-more,F,10,10\n")
    assert evaluate(runs, tmp_path / "pooled") == 2
    (command,) = re.findall("`wds-bone train (.*)`", capsys.readouterr().err)
    assert train(shlex.split(command)) == 0
    again = runs[1].with_name("my fold-1-again")
    assert (again / "predictions.csv").read_bytes() == expected
    assert evaluate([runs[0], again], tmp_path / "pooled") == 0


@pytest.mark.slow
def test_what_training_leaves_behind_can_be_pooled_and_used_as_an_ensemble(tmp_path: Path) -> None:
    shards = write_small_set(tmp_path / "shards")
    runs = [tmp_path / f"fold-{fold}" for fold in range(2)]
    for fold, run in enumerate(runs):
        assert train(train_argv(shards, run, "--folds", "2", "--fold", str(fold))) == 0
    assert evaluate(runs, tmp_path / "pooled") == 0
    pooled = read_predictions(tmp_path / "pooled" / "predictions.csv")
    assert len(set(pooled.key)) == 10
    checkpoints = [str(run / "best.pt") for run in runs]
    options = ["--shards", str(shards), "--split", "train", "--device", "cpu", "--local-batch-size", "4"]
    alone = []
    for fold in range(2):
        argv = ["--checkpoint", checkpoints[fold], "--out", str(tmp_path / f"alone-{fold}"), *options]
        assert main(argv) == 0
        alone.append(read_predictions(tmp_path / f"alone-{fold}" / "predictions.csv"))
    assert main(["--checkpoint", *checkpoints, "--out", str(tmp_path / "both"), *options]) == 0
    both = read_predictions(tmp_path / "both" / "predictions.csv")
    np.testing.assert_allclose(
        both.predicted_months, (alone[0].predicted_months + alone[1].predicted_months) / 2, rtol=1e-6
    )
