"""Test `wds-bone train`: runs are reproducible, can be interrupted, and are protected from other runs."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.launches import wait_for_lines
from tests.learn.out_of_memory import OUT_OF_MEMORY_MODEL, register_out_of_memory_model
from tests.learn.runs import (
    NUM_STEPS,
    assert_same_state,
    metrics_of,
    open_run,
    state_of,
    train_argv,
)
from tests.sample_sets import write_set
from wds_bone.distributed.resources import Clock
from wds_bone.learn.messages import closing_text
from wds_bone.learn.run import Progress
from wds_bone.model.checkpoint import load_checkpoint, save_checkpoint
from wds_bone.train import main


@pytest.mark.fault("F4")
def test_a_run_stopped_and_resumed_at_every_step_equals_the_uninterrupted_one(
    shards: Path, finished: Path, tmp_path: Path
):
    out = tmp_path / "stopped"
    for step in range(1, NUM_STEPS + 1):
        assert main(train_argv(shards, out, "--max-steps", str(step), "--threads", str(step))) == 0
        assert load_checkpoint(out / "last.pt")["progress"]["step"] == step
    assert_same_state(out / "last.pt", finished / "last.pt")
    assert_same_state(out / "best.pt", finished / "best.pt")
    assert metrics_of(out) == metrics_of(finished)


@pytest.mark.fault("F1")
def test_a_run_killed_after_its_last_checkpoint_repeats_the_lost_steps(shards: Path, finished: Path, tmp_path: Path):
    out = tmp_path / "killed"
    main(train_argv(shards, out, "--max-steps", "2"))
    at_two = (out / "last.pt").read_bytes()
    main(train_argv(shards, out, "--max-steps", "4"))
    (out / "last.pt").write_bytes(at_two)  # the later steps were taken, but not saved
    assert main(train_argv(shards, out)) == 0
    assert_same_state(out / "last.pt", finished / "last.pt")
    assert metrics_of(out) == metrics_of(finished)


@pytest.mark.fault("F1")
def test_a_run_killed_before_its_first_checkpoint_starts_again(shards: Path, finished: Path, tmp_path: Path):
    out = tmp_path / "killed"
    main(train_argv(shards, out, "--max-steps", "2"))
    (out / "last.pt").unlink()
    assert main(train_argv(shards, out)) == 0
    assert_same_state(out / "last.pt", finished / "last.pt")
    assert metrics_of(out) == metrics_of(finished)


def test_a_different_seed_gives_a_different_model(shards: Path, finished: Path, tmp_path: Path):
    main(train_argv(shards, tmp_path / "other", "--seed", "1", "--max-steps", "1"))
    weights = "/model/backbone.conv1.0.weight"
    assert not torch.equal(state_of(tmp_path / "other" / "last.pt")[weights], state_of(finished / "last.pt")[weights])


@pytest.mark.fault("E4")
def test_running_a_finished_run_again_reports_that_and_changes_nothing(
    shards: Path, copied: Path, capsys: pytest.CaptureFixture[str]
):
    before = (copied / "last.pt").read_bytes(), metrics_of(copied)
    assert main(train_argv(shards, copied)) == 0
    assert f"finished after step {NUM_STEPS} of {NUM_STEPS}" in capsys.readouterr().out
    assert ((copied / "last.pt").read_bytes(), metrics_of(copied)) == before


def test_metrics_have_a_line_for_every_step_and_every_validation(finished: Path):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    validations = [line for line in lines if "val_mae_months" in line]
    assert [line["step"] for line in steps] == list(range(1, NUM_STEPS + 1))
    assert [line["samples"] for line in steps] == [4, 8, 12, 16, 20]
    assert all({"epoch", "lr", "images_per_second", "wait_fraction", "rss_bytes"} <= line.keys() for line in steps)
    assert [line["step"] for line in validations] == [3, 5]  # the first steps past 10 and past 20 samples
    for line in validations:
        assert line["val_mae_low_months"] <= line["val_mae_months"] <= line["val_mae_high_months"]
        assert line["constant_mae_months"] > 0


def test_the_learning_curve_of_a_run_is_drawn(finished: Path):
    with Image.open(finished / "learning_curve.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 500


def test_the_best_checkpoint_has_the_lowest_validation_error(finished: Path):
    errors = [line["val_mae_months"] for line in metrics_of(finished) if "val_mae_months" in line]
    progress = load_checkpoint(finished / "best.pt")["progress"]
    assert progress["best_mae_months"] == min(errors)
    assert progress["best_epoch"] == 1 + errors.index(min(errors)) == progress["validated_epochs"]


def test_the_checkpoint_records_its_provenance(finished: Path, shards: Path):
    contents, run = load_checkpoint(finished / "last.pt"), json.loads((finished / "run.json").read_text())
    assert contents["config"] == run["config"]
    assert run["config"]["model"] == "shufflenet_v2_x0_5"
    assert run["samples"] == {"train": 10, "val": 5}
    assert contents["stream"]["order_digest"] == run["order_digests"]["train"]
    assert contents["preprocessing"]["image_format"]["height"] == 32
    assert set(run["versions"]) == {"wds_bone", "torch", "torchvision", "python"}


def test_the_run_is_described_before_its_first_step(shards: Path, tmp_path: Path):
    out = tmp_path / "run"
    assert main(train_argv(shards, out, "--lr", "1e30")) == 2
    assert json.loads((out / "run.json").read_text())["config"]["lr"] == 1e30


@pytest.mark.fault("F4")
def test_different_settings_in_the_folder_of_a_run_are_refused_with_both_values(
    shards: Path, copied: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(train_argv(shards, copied, "--lr", "0.5", "--batch-size", "5")) == 2
    message = capsys.readouterr().err
    assert "expected: --batch-size 4, --lr 0.001" in message
    assert "got:      --batch-size 5, --lr 0.5" in message


@pytest.mark.fault("F4")
def test_the_folder_of_a_run_without_a_checkpoint_is_refused_too(
    shards: Path, copied: Path, capsys: pytest.CaptureFixture[str]
):
    (copied / "last.pt").unlink()
    assert main(train_argv(shards, copied, "--seed", "9")) == 2
    assert "--seed 0" in capsys.readouterr().err


@pytest.mark.fault("E6")
def test_resume_none_never_overwrites_a_run(shards: Path, copied: Path, capsys: pytest.CaptureFixture[str]):
    before = (copied / "last.pt").read_bytes()
    assert main(train_argv(shards, copied, "--resume", "none")) == 2
    assert "already contains a run" in capsys.readouterr().err
    assert (copied / "last.pt").read_bytes() == before


@pytest.mark.fault("F3")
def test_a_run_can_resume_from_an_earlier_checkpoint_if_the_last_one_is_damaged(
    shards: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "damaged"
    main(train_argv(shards, out, "--max-steps", "2"))
    earlier = Path(shutil.copy(out / "last.pt", tmp_path / "earlier.pt"))
    main(train_argv(shards, out, "--max-steps", "4"))
    damaged = bytearray((out / "last.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (out / "last.pt").write_bytes(damaged)
    assert main(train_argv(shards, out)) == 2
    assert "changed since it was saved" in capsys.readouterr().err
    assert main(train_argv(shards, out, "--resume", str(earlier))) == 0
    assert_same_state(out / "last.pt", finished / "last.pt")
    assert metrics_of(out) == metrics_of(finished)


def test_a_finished_run_that_is_resumed_in_another_folder_is_saved_there(
    shards: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "elsewhere"
    assert main(train_argv(shards, out, "--resume", str(finished / "last.pt"))) == 0
    assert f"checkpoint {out / 'last.pt'}" in capsys.readouterr().out
    assert_same_state(out / "last.pt", finished / "last.pt")


@pytest.mark.parametrize("changed", ["train", "val"])
@pytest.mark.fault("F4")
def test_resuming_with_different_shards_is_refused(
    changed: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    counts = {"train": [7, 3], "val": [5]} | {changed: [6, 4] if changed == "train" else [4]}
    others = write_set(tmp_path / "others", size=32, **counts)
    assert main(train_argv(others, copied)) == 2
    message = capsys.readouterr().err
    assert {"train": "does not belong to this stream", "val": "the validation shards differ"}[changed] in message
    assert "(saved)" in message


@pytest.mark.fault("F4")
def test_resuming_with_the_same_shards_in_another_folder_is_accepted(shards: Path, copied: Path, tmp_path: Path):
    moved = Path(shutil.copytree(shards, tmp_path / "moved"))
    assert main(train_argv(moved, copied)) == 0


@pytest.mark.fault("E9")
def test_a_checkpoint_of_another_version_is_refused(shards: Path, copied: Path, capsys: pytest.CaptureFixture[str]):
    contents = load_checkpoint(copied / "last.pt")
    contents["versions"]["wds_bone"] = "0.0.1"
    save_checkpoint(copied / "last.pt", contents)
    assert main(train_argv(shards, copied)) == 2
    assert "install wds_bone 0.0.1" in capsys.readouterr().err


@pytest.mark.fault("E1")
def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_samples_and_keeps_the_checkpoint(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "diverged"
    argv = train_argv(shards, out, "--lr", "1e30")
    assert main([*argv, "--max-steps", "1"]) == 0
    before = (out / "last.pt").read_bytes()
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert "error: step 2: the loss or a gradient is not finite for samples hand-" in message
    assert (out / "last.pt").read_bytes() == before


@pytest.mark.fault("E4")
def test_a_batch_larger_than_the_set_contains_samples_several_times(shards: Path, tmp_path: Path):
    out = tmp_path / "large"
    assert main(train_argv(shards, out, "--batch-size", "32")) == 0
    assert [line["step"] for line in metrics_of(out)] == [1, 1]
    assert load_checkpoint(out / "last.pt")["progress"]["validated_epochs"] == 3


@pytest.mark.fault("E4")
def test_training_works_with_a_single_sample(tmp_path: Path):
    shards = write_set(tmp_path / "one", size=32, train=[1], val=[1])
    assert main(train_argv(shards, tmp_path / "run")) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "resnet19"], "no classification model"),
        (["--image-size", "8"], "too small"),
        (["--model", "alexnet"], "--image-size 224"),
        (["--batch-size", "1"], "a larger --batch-size"),
        (["--init-weights", "none.pth"], "none.pth"),
        (["--resume", "none.pt"], "none.pt"),
    ],
)
@pytest.mark.fault("E5")
def test_settings_that_cannot_work_are_refused_and_leave_no_run_behind(
    more: list[str], message: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    assert main(train_argv(shards, out, *more)) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


NO_HISTORY = '{"config": {}, "versions": {"wds_bone": "0.2.0"}, "history": 5}'


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"config": 3}', "\x00", pytest.param("[" * 100_000, id="deep"), NO_HISTORY]
)
@pytest.mark.fault("F3")
def test_a_damaged_description_of_a_run_is_reported_and_can_be_removed(
    text: str, shards: Path, copied: Path, capsys: pytest.CaptureFixture[str]
):
    (copied / "run.json").write_text(text)
    assert main(train_argv(shards, copied)) == 2
    assert f"{copied / 'run.json'}: is damaged" in capsys.readouterr().err
    (copied / "run.json").unlink()
    assert main(train_argv(shards, copied)) == 0


@pytest.mark.fault("E2")
def test_running_out_of_memory_is_an_error_that_names_the_batch_size(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    register_out_of_memory_model(monkeypatch)
    assert main(train_argv(shards, tmp_path / "run", "--model", OUT_OF_MEMORY_MODEL)) == 2
    message = capsys.readouterr().err
    assert "memory of the cpu device" in message
    assert "got:      --model out_of_memory, --batch-size 4" in message


def test_the_closing_text_of_a_run_stopped_before_its_first_step_names_no_checkpoint(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with open_run(train_argv(shards, tmp_path / "run")) as run:
        pass
    run.clock = Clock(4000.0)
    ending, *more = closing_text(run, Progress(), signal_number=signal.SIGINT).splitlines()
    assert ending == f"stopped by SIGINT after step 0 of {NUM_STEPS} and 1:06:40 of training; no checkpoint yet"
    assert more == ["not validated yet", "run the same command again to continue"]
    resumed_elsewhere = Progress(step=3, best_mae_months=12.0, best_epoch=1)
    elsewhere = "its model is in the folder of the checkpoint that was resumed"
    assert f"\nbest validation MAE 12.00 months after epoch 1; {elsewhere}\n" in closing_text(run, resumed_elsewhere)


def test_validation_shards_may_have_one_split_of_any_name(shards: Path, tmp_path: Path):
    other = write_set(tmp_path / "other", size=32, hospital=[4])
    for number, val in enumerate((other, other / "manifest.json", shards)):
        out = tmp_path / f"run-{number}"
        assert main(train_argv(shards, out, "--val", str(val), "--max-steps", "1")) == 0
        assert json.loads((out / "run.json").read_text())["samples"]["val"] == (5 if val == shards else 4)


def test_validation_shards_without_a_manifest_are_found_by_their_names(shards: Path, tmp_path: Path):
    folder = tmp_path / "by-name"
    folder.mkdir()
    for split in ("train", "val"):
        (folder / f"{split}_0.tar").write_bytes((shards / f"{split}-000000.tar").read_bytes())
    assert main(train_argv(shards, tmp_path / "run", "--val", str(folder), "--max-steps", "1")) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["samples"]["val"] == 5


@pytest.mark.fault("E5")
def test_training_on_tars_requires_validation_shards(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = train_argv(shards, tmp_path / "run", "--train", str(shards / "train-*.tar"))
    assert main(argv) == 2
    assert "add --val" in capsys.readouterr().err
    assert main([*argv, "--val", str(shards / "val-*.tar"), "--max-steps", "1"]) == 0


def test_validation_images_of_a_different_size_are_refused(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    larger = write_set(tmp_path / "larger", size=40, val=[5])
    assert main(train_argv(shards, tmp_path / "run", "--val", str(larger))) == 2
    assert "height 40" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("resnet18", ["--precision", "bf16"]),
        ("mobilenet_v3_small", ["--precision", "bf16"]),  # dropout
        ("convnext_tiny", []),  # stochastic depth
        ("shufflenet_v2_x0_5", ["--set", "ema=0", "shuffle_buffer=3"]),
    ],
)
@pytest.mark.fault("F4")
def test_models_with_random_layers_or_half_precision_also_resume_exactly(
    model: str, more: list[str], shards: Path, tmp_path: Path
):
    options = ["--model", model, "--image-size", "64", *more]
    assert main(train_argv(shards, tmp_path / "whole", *options)) == 0
    for step in ("2", "3", "5"):
        assert main(train_argv(shards, tmp_path / "parts", *options, "--max-steps", step)) == 0
    assert_same_state(tmp_path / "parts" / "last.pt", tmp_path / "whole" / "last.pt")


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.fault("F1")
def test_a_hundred_kills_at_random_times_do_not_change_a_bit_of_the_result(shards: Path, tmp_path: Path):
    """The kills come at any time: during imports, before the first checkpoint, in a step, a validation or a save."""
    settings = ["--epochs", "600"]
    assert main(train_argv(shards, tmp_path / "whole", *settings)) == 0
    out, generator, num_killed = tmp_path / "killed", random.Random(11), 0
    while num_killed < 100:
        process = start(*train_argv(shards, out, *settings))
        if num_killed % 5:  # most kills come while it trains
            wait_for_lines(out, 1 + len(metrics_of(out)) if (out / "metrics.jsonl").exists() else 1, process)
            time.sleep(generator.random() * 0.1)
        else:
            time.sleep(generator.random() * 4)
        process.kill()
        process.communicate()
        num_killed += process.returncode == -signal.SIGKILL
    assert main(train_argv(shards, out, *settings)) == 0
    assert_same_state(out / "last.pt", tmp_path / "whole" / "last.pt")
    assert_same_state(out / "best.pt", tmp_path / "whole" / "best.pt")
    assert metrics_of(out) == metrics_of(tmp_path / "whole")


def start(*argv: str) -> "subprocess.Popen[str]":
    """Start the command in a new process, with one thread like the runs to which it is compared."""
    return subprocess.Popen(
        [sys.executable, "-m", "wds_bone.train", *argv],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault("F1")
def test_a_run_killed_several_times_equals_an_uninterrupted_one(shards: Path, tmp_path: Path):
    settings = ["--epochs", "20"]
    assert main(train_argv(shards, tmp_path / "whole", *settings)) == 0
    out, generator = tmp_path / "killed", random.Random(5)
    for num_lines in (1, 9, 20, 33, 45):
        process = start(*train_argv(shards, out, *settings))
        wait_for_lines(out, num_lines, process)
        time.sleep(generator.random() * 0.05)
        process.kill()
        process.communicate()
    assert main(train_argv(shards, out, *settings)) == 0
    assert_same_state(out / "last.pt", tmp_path / "whole" / "last.pt")
    assert_same_state(out / "best.pt", tmp_path / "whole" / "best.pt")
    assert metrics_of(out) == metrics_of(tmp_path / "whole")


@pytest.fixture(scope="module")
def run_of_twenty_epochs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of 20 epochs."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(train_argv(shards, out, "--epochs", "20")) == 0
    return out


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault("E3", "E8")
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_process_that_receives_a_signal_saves_and_exits_with_its_code(
    number: int, exit_code: int, shards: Path, run_of_twenty_epochs: Path, tmp_path: Path
):
    settings, out = ["--epochs", "20"], tmp_path / "stopped"
    process = start(*train_argv(shards, out, *settings))
    wait_for_lines(out, 7, process)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=20)
    assert process.returncode == exit_code
    step = load_checkpoint(out / "last.pt")["progress"]["step"]
    name = signal.Signals(number).name
    assert f"stopped by {name} after step {step} of 50 and 0:0" in printed
    assert printed.endswith("\nrun the same command again to continue\n")
    resumed = start(*train_argv(shards, out, *settings))
    resumed.communicate(timeout=100)
    assert resumed.returncode == 0
    assert_same_state(out / "last.pt", run_of_twenty_epochs / "last.pt")
    assert metrics_of(out) == metrics_of(run_of_twenty_epochs)
