"""Test that a run folder has one training at a time, and what is refused before any work."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.learn.runs import metrics_of, open_run, train_argv
from tests.sample_sets import write_set
from wds_bone.evaluate import main as evaluate
from wds_bone.inference.predictions import read_predictions
from wds_bone.inference.rows import COLUMNS
from wds_bone.learn.messages import closing_text
from wds_bone.learn.run import Progress
from wds_bone.model.checkpoint import load_checkpoint, save_checkpoint
from wds_bone.predict import main as predict
from wds_bone.report.comparison import compare
from wds_bone.report.coverage import coverage
from wds_bone.storage.lock import folder_lock
from wds_bone.train import main


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.fault("E6")
def test_a_second_training_is_refused_with_an_error_that_names_the_first_which_loses_nothing(
    shards: Path, tmp_path: Path
):
    argv = train_argv(shards, tmp_path / "run", "--epochs", "8")
    command = [sys.executable, "-m", "wds_bone.train", *argv]
    options = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True, "stderr": subprocess.PIPE}
    first, second = (subprocess.Popen(command, stdout=subprocess.DEVNULL, **options) for _ in range(2))
    outcomes = [(process.communicate(timeout=250)[1], process) for process in (first, second)]
    codes = sorted(process.returncode for _, process in outcomes)
    assert codes in ([0, 2], [0, 0])  # the second may have started only after the first had ended
    for message, process in outcomes:
        if process.returncode:
            (winner,) = (other for other in (first, second) if other is not process)
            assert "another run of `wds-bone train` holds this lock" in message
            assert f"got:      process {winner.pid} on " in message
    assert len([line for line in metrics_of(tmp_path / "run") if "loss" in line]) == 20
    assert load_checkpoint(tmp_path / "run" / "last.pt")["progress"]["step"] == 20


@pytest.mark.fault("E6")
def test_a_training_and_an_evaluation_do_not_start_in_a_locked_folder(
    shards: Path, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    evaluation = ["--checkpoint", str(stopped / "last.pt"), "--shards", str(shards), "--split", "val"]
    with folder_lock(tmp_path, "train"), folder_lock(tmp_path, "evaluate"):
        assert main(train_argv(shards, tmp_path)) == 2
        assert "another run of `wds-bone train` holds this lock" in capsys.readouterr().err
        assert evaluate([*evaluation, "--out", str(tmp_path), "--device", "cpu"]) == 2
        assert "another run of `wds-bone evaluate` holds this lock" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("B7", "E5")
@pytest.mark.parametrize(
    ("name", "is_folder"), [("tensorboard", False), ("last.pt", True), ("metrics.jsonl", True), ("config.toml", True)]
)
def test_a_name_that_a_run_uses_for_something_else_is_refused_before_any_work(
    name: str, is_folder: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / name).mkdir() if is_folder else (tmp_path / name).touch()
    assert main(["--train", "no-shards", "--out", str(tmp_path), "--device", "cpu"]) == 2
    message = capsys.readouterr().err
    assert f"error: {tmp_path / name}: is not {'a file' if is_folder else 'a folder'}" in message
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.fault("B7", "E5")
@pytest.mark.parametrize(
    ("below", "problem"),
    [("x" * 300, "is too long: 300 bytes"), ("file", "file: is not a folder"), ("file/run", "file is not a folder")],
)
def test_an_out_that_cannot_be_a_folder_is_refused_before_any_work(
    below: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    assert main(["--train", "no-shards", "--out", str(tmp_path / below), "--device", "cpu"]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.fault("D9", "E5")
@pytest.mark.parametrize(
    ("more", "problem", "number"),
    [
        (["--image-size", "20000"], "the cpu device has too little memory", "GB for the layers of the model"),
        (["--batch-size", "1000000000"], "do not fit into memory", "1.0 TB"),
        (["--threads", "100000"], "--threads 100000 is more than this machine can use", "64 for each of"),
    ],
)
def test_settings_beyond_the_machine_are_refused_with_numbers(
    more: list[str], problem: str, number: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*train_argv(shards, tmp_path / "run"), *more]) == 2
    message = capsys.readouterr().err
    assert problem in message
    assert number in message
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("D9")
@pytest.mark.parametrize("option", ["--local-batch-size", "--threads"])
def test_an_evaluation_beyond_the_machine_is_refused_with_numbers(
    option: str, shards: Path, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    argv = ["--checkpoint", str(stopped / "last.pt"), "--shards", str(shards), "--split", "val", "--device", "cpu"]
    assert evaluate([*argv, "--out", str(tmp_path / "report"), option, "100000000"]) == 2
    assert "expected: at most" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_the_settings_that_a_run_writes_do_not_resume_another_checkpoint(
    shards: Path, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    resumed = tmp_path / "resumed"
    argv = train_argv(shards, resumed, "--max-steps", "4", "--resume", str(stopped / "last.pt"))
    assert main(argv) == 0
    assert "resume =" not in (resumed / "config.toml").read_text()
    capsys.readouterr()
    again = ["--config", str(resumed / "config.toml"), "--out", str(tmp_path / "again"), "--max-steps", "1"]
    assert main(again) == 0
    assert "stopped by --max-steps after step 1 of" in capsys.readouterr().out


@pytest.mark.fault("E9", "F3")
@pytest.mark.parametrize("damage", ["newer", "no ema", "no optimizer", "a weight less"])
def test_every_command_refuses_a_newer_or_incomplete_checkpoint(
    damage: str, shards: Path, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    contents, path = load_checkpoint(stopped / "last.pt"), tmp_path / "other.pt"
    if damage == "newer":
        contents["format"] = "wds_bone checkpoint 9"
    elif damage == "a weight less":
        for name in ("model", "ema"):
            contents[name].pop("head.1.bias")
    else:
        del contents[damage.removeprefix("no ")]
    save_checkpoint(path, contents)
    evaluation = ["--checkpoint", str(path), "--shards", str(shards), "--split", "val", "--device", "cpu"]
    commands = [
        lambda: main(train_argv(shards, tmp_path / "run", "--resume", str(path))),
        lambda: main(train_argv(shards, tmp_path / "run", "--init-weights", str(path))),
        lambda: evaluate([*evaluation, "--out", str(tmp_path / "report")]),
        lambda: predict(["--checkpoint", str(path), "--gender", "F", "--device", "cpu", "film.png"]),
    ]
    expected = {"newer": "has a different format", "a weight less": "does not contain a whole"}
    for command in commands:
        assert command() == 2
        assert expected.get(damage, "the checkpoint is incomplete") in capsys.readouterr().err


@pytest.mark.fault("E1")
def test_a_model_worse_than_the_constant_predictor_is_not_called_best(shards: Path, tmp_path: Path):
    with open_run(train_argv(shards, tmp_path / "run")) as run:
        pass
    diverged = closing_text(run, Progress(step=5, validated_epochs=2, best_mae_months=6.7e12, best_epoch=1))
    assert "the model is worse than the constant predictor, whose validation MAE is " in diverged
    assert "6,700,000,000,000.00 months after epoch 1" in diverged
    assert "another --out, and more --epochs or a lower --lr" in diverged
    assert "best" not in diverged
    good = closing_text(run, Progress(step=5, validated_epochs=2, best_mae_months=1.0, best_epoch=1))
    assert "best validation MAE 1.00 months after epoch 1" in good


@pytest.mark.fault("E4", "E5")
def test_a_set_without_validation_samples_is_refused_with_both_ways_to_get_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    only_train = write_set(tmp_path / "set", size=32, train=[6])
    assert main(train_argv(only_train, tmp_path / "run")) == 2
    message = capsys.readouterr().err
    assert "no validation samples" in message
    assert "add --val and the path of validation shards, or --folds 5 --fold 0" in message
    assert main(train_argv(only_train, tmp_path / "run", "--folds", "2", "--fold", "0", "--max-steps", "1")) == 0


def test_training_on_the_validation_samples_is_said(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = train_argv(shards, tmp_path / "run", "--train", str(shards / "*.tar"), "--val", str(shards / "val-*.tar"))
    assert main([*argv, "--max-steps", "1"]) == 0
    message = capsys.readouterr().err
    assert "warning: 5 of the 5 validation samples (the first is 'hand-" in message
    assert main(train_argv(shards, tmp_path / "clean", "--max-steps", "1")) == 0
    assert "warning" not in capsys.readouterr().err


def test_every_file_and_every_number_of_a_run_an_evaluation_and_a_prediction_is_documented(
    shards: Path, stopped: Path, tmp_path: Path
):
    evaluation = ["--checkpoint", str(stopped / "best.pt"), "--shards", str(shards), "--split", "val"]
    assert evaluate([*evaluation, "--out", str(tmp_path), "--device", "cpu"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    predictions = read_predictions(tmp_path / "predictions.csv")
    calibrated = replace(predictions, interval_months=np.zeros((5, 2), np.float32))
    lines = [json.loads(line) for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    names = [
        *(path.name for folder in (stopped, tmp_path) for path in folder.iterdir()),
        *(name for line in lines for name in line),
        *(name for checkpoint in ("last.pt", "best.pt") for name in load_checkpoint(stopped / checkpoint)),
        *json.loads((stopped / "run.json").read_text()),
        *metrics,
        *metrics["errors"]["all"],
        *metrics["errors"]["all"]["bland_altman"],
        *coverage(calibrated)["all"],
        *compare(predictions, predictions),
        *COLUMNS,
        *(stopped / "predictions.csv").read_text().splitlines()[0].split(","),
    ]
    document = (Path(__file__).parent.parent / "docs" / "run-folder.md").read_text()
    described = {name.rstrip("/") for name in re.findall("`([^`\n]+)`", document)}
    assert sorted(set(names) - described) == []
