"""Test the less common options of `wds-bone train`: folds, patience, settings from a file, and the dry run."""

import json
import re
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.learn.runs import (
    SMALL_MODEL,
    assert_same_state,
    metrics_of,
    open_run,
    train_argv,
)
from wds_bone.command_line import parse_config
from wds_bone.commands import TRAIN
from wds_bone.learn.messages import closing_text, opening_text
from wds_bone.learn.metrics_file import read_metrics
from wds_bone.learn.run import Progress
from wds_bone.learn.settings import TrainConfig
from wds_bone.model.checkpoint import load_checkpoint, save_checkpoint
from wds_bone.train import main


def test_the_config_that_a_run_wrote_reproduces_the_run(shards: Path, tmp_path: Path):
    out = tmp_path / "first"
    assert main(train_argv(shards, out, "--set", "ema=0.5", "augment_turn_degrees=3")) == 0
    written = parse_config(TrainConfig, ["--config", str(out / "config.toml")], TRAIN)
    assert (written.ema, written.augment_turn_degrees, written.batch_size) == (0.5, 3.0, 4)
    assert main(["--config", str(out / "config.toml"), "--out", str(tmp_path / "second")]) == 0
    assert_same_state(tmp_path / "second" / "last.pt", out / "last.pt")
    assert metrics_of(tmp_path / "second") == metrics_of(out)
    assert main(["--config", str(out / "config.toml")]) == 0  # resumes the first run, which is finished


def test_the_settings_that_a_run_prints_are_a_valid_command_line(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = ["--set", "augment_flip=false", "freeze_backbone=true", "patience=3", "ema=0.5"]
    assert main(train_argv(shards, tmp_path / "a run", "--max-steps", "1", *settings)) == 0
    program, name, *typed = shlex.split(capsys.readouterr().out.splitlines()[0])
    assert f"{program} {name}" == TRAIN.name
    parsed = parse_config(TrainConfig, typed, TRAIN)
    written = parse_config(TrainConfig, ["--config", str(tmp_path / "a run" / "config.toml")], TRAIN)
    assert parsed == replace(written, threads=None)
    assert not parsed.augment_flip


def test_settings_that_nobody_gave_are_not_printed_as_typed_but_as_derived(shards: Path, tmp_path: Path):
    out = tmp_path / "run"
    options = ["--model", SMALL_MODEL, "--epochs", "14", "--max-steps", "1", "--device", "cpu"]
    argv = ["--train", str(shards), "--out", str(out), *options]
    with open_run(argv) as run:
        pass
    text = opening_text(run, Progress(), given=parse_config(TrainConfig, argv, TRAIN))
    typed, derived, summary = text.splitlines()
    assert typed == shlex.join(["wds-bone", "train", *argv])
    assert derived.startswith("derived: lr 0.002, threads 1, precision ")
    assert derived.endswith(f", ema 0; all settings: {out / 'config.toml'}")
    assert summary == "10 training and 5 validation samples, 32 x 32 pixels, 5 steps, now up to step 1; starting"


def test_dropout_with_a_frozen_backbone_is_refused(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = train_argv(shards, tmp_path / "run", "--set", "freeze_backbone=true", "--drop-path", "0.1")
    assert main(argv) == 2
    assert "turns random layers off" in capsys.readouterr().err


def test_a_dry_run_describes_the_run_and_leaves_nothing_behind(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(train_argv(shards, tmp_path / "run", "--dry-run", "--set", "accumulate=2")) == 0
    shown = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert "image uint8 (4, 1, 32, 32)" in shown["batch"]
    assert shown["steps"].strip() == "5 of 5 left, 2 validations"
    assert re.fullmatch(r" *about 0:00:\d\d: [\d.e-]+ s per step, [\d.e-]+ s per validation", shown["duration"])
    assert "10 samples in 2 shards" in shown["training"]
    assert "5 samples in 1 shard, 2 batches" in shown["validation"]
    assert "each with 4 of 4 samples per step, in 2 parts" in shown["processes"]
    assert shown["memory"].strip().startswith("peak ")
    assert "MB on cpu" in shown["memory"]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_does_not_change_the_run_that_it_would_resume(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    assert main(train_argv(shards, out, "--max-steps", "2")) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert main(train_argv(shards, out, "--dry-run", "--max-steps", "4")) == 0
    assert "2 of 4 left, 1 validation\n" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_the_folds_of_a_cross_validation_validate_every_sample_once(shards: Path, tmp_path: Path):
    counts = []
    for fold in range(3):
        out = tmp_path / f"fold-{fold}"
        assert main(train_argv(shards, out, "--folds", "3", "--fold", str(fold), "--max-steps", "1")) == 0
        described = json.loads((out / "run.json").read_text())
        assert load_checkpoint(out / "last.pt")["config"]["fold"] == fold
        counts.append((described["samples"]["train"], described["samples"]["val"]))
    assert sorted(counts) == [(6, 4), (7, 3), (7, 3)]


def test_a_run_can_only_be_resumed_with_its_own_fold(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = train_argv(shards, tmp_path / "run", "--folds", "3", "--fold")
    assert main([*argv, "0", "--max-steps", "1"]) == 0
    assert main([*argv, "1"]) == 2
    assert "--fold 0" in capsys.readouterr().err
    assert main([*argv, "0"]) == 0


def test_patience_counts_epochs_without_improvement(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = train_argv(shards, tmp_path / "run", "--lr", "0", "--epochs", "9", "--set", "ema=0.9", "patience=2")
    argv += [
        "--model",
        "convnext_tiny",
        "--drop-path",
        "0",
    ]  # with a rate of zero nothing changes, as there are no batch statistics
    assert main(argv) == 0
    assert "finished, 2 epochs without improvement, after step 8 of 23" in capsys.readouterr().out
    assert [line["best_epoch"] for line in metrics_of(tmp_path / "run") if "best_epoch" in line] == [1, 1, 1]
    before = (tmp_path / "run" / "last.pt").read_bytes()
    assert main(argv) == 0
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_a_frozen_backbone_does_not_change(shards: Path, tmp_path: Path):
    assert main(train_argv(shards, tmp_path / "source", "--max-steps", "1")) == 0
    settings = ["--init-weights", str(tmp_path / "source" / "last.pt"), "--set", "freeze_backbone=true"]
    assert main(train_argv(shards, tmp_path / "run", *settings)) == 0
    source, tuned = (load_checkpoint(tmp_path / name / "last.pt") for name in ("source", "run"))
    changed = {name for name, value in tuned["model"].items() if not torch.equal(value, source["ema"][name].to(value))}
    assert changed == {"backbone.fc.weight", "backbone.fc.bias", "gender.weight", "head.1.weight", "head.1.bias"}


def test_synchronized_batch_norms_require_cuda(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(train_argv(shards, tmp_path / "run", "--set", "sync_batch_norm=true")) == 2
    assert "sync_batch_norm works on CUDA devices only" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_scalars_and_predictions_and_shows_augmented_inputs_once(shards: Path, tmp_path: Path):
    out = tmp_path / "run"
    assert main(train_argv(shards, out, "--max-steps", "4")) == 0
    assert main(train_argv(shards, out)) == 0
    board = EventAccumulator(str(out / "tensorboard"), size_guidance={"images": 0})
    board.Reload()
    assert {"loss", "lr", "val_mae_months", "wait_fraction"} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Images("augmented inputs")] == [0]
    assert [event.step for event in board.Images("predicted and true age")] == [3, 5]


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ([], ""),
        (["--max-steps", "2"], ", with a larger or no --max-steps,"),
        (["--max-steps", "2", "--resume", "other.pt"], ", without --resume, with a larger or no --max-steps,"),
    ],
)
def test_the_text_at_the_end_says_what_to_change_in_the_command_to_continue(
    options: list[str], change: str, shards: Path, tmp_path: Path
):
    with open_run(train_argv(shards, tmp_path / "run", *options)) as run:
        pass
    text = closing_text(run, Progress(step=2))
    assert text.startswith(
        f"stopped by {'--max-steps' if options else 'a signal to another process'} after step 2 of 5"
    )
    assert text.endswith(f"\nrun the same command again{change} to continue")
    assert "to continue" not in closing_text(run, Progress(step=5, validated_epochs=2))


def test_the_time_of_a_run_continues_when_it_is_resumed_also_in_another_folder(shards: Path, tmp_path: Path):
    out, other = tmp_path / "run", tmp_path / "other"
    assert main(train_argv(shards, out, "--max-steps", "2")) == 0
    contents = load_checkpoint(out / "last.pt")
    contents["clock"]["elapsed_seconds"] += 1000.0
    save_checkpoint(out / "last.pt", contents)
    assert main(train_argv(shards, other, "--resume", str(out / "last.pt"))) == 0
    seconds = [line["elapsed_seconds"] for line in read_metrics(other / "metrics.jsonl")]
    assert seconds == sorted(seconds)
    assert 1000.0 < seconds[0] < seconds[-1] < 1000.0 + 900.0


@pytest.mark.fault("E3")
def test_a_signal_in_the_last_validation_is_not_called_finished(shards: Path, tmp_path: Path):
    with open_run(train_argv(shards, tmp_path / "run")) as run:
        pass
    text = closing_text(run, Progress(step=5, validated_epochs=1), signal_number=signal.SIGTERM)
    assert text.startswith("stopped by SIGTERM after step 5 of 5")
    assert text.endswith("\nrun the same command again to continue")
