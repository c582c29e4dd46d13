"""Test what is written to `metrics.jsonl`, and what is removed from it when a run is resumed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.learn.runs import limit_file_size, metrics_of
from wds_bone.errors import CheckpointError, WdsBoneError
from wds_bone.inference.predictions import Predictions
from wds_bone.learn import metrics_log
from wds_bone.learn.boards import open_boards
from wds_bone.learn.metrics_file import read_metrics, truncate_metrics
from wds_bone.learn.metrics_log import MetricsLog
from wds_bone.learn.run import Progress

AGES = np.array([90.0, 120.0], np.float32)
PREDICTIONS = Predictions(["a", "b"], np.array([0, 1], np.float32), AGES, AGES + 3)
STEP = {
    "epoch": 0.5,
    "samples": 8,
    "elapsed_seconds": 2.0,
    "loss": 1.0,
    "lr": 0.1,
    "images_per_second": 9.0,
    "wait_fraction": 0.0,
}
VALIDATION = {
    "epoch": 1.6,
    "elapsed_seconds": 80.0,
    "val_mae_months": 12.0,
    "val_mae_low_months": 11.0,
    "val_mae_high_months": 13.0,
    "constant_mae_months": 33.0,
    "best_epoch": 1,
}


def write_lines(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.fault("F4")
def test_lines_after_the_resumed_step_are_removed_and_the_others_are_kept(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    write_lines(
        path, {"step": 1}, {"step": 2, "loss": 3.0}, {"step": 2, "epoch": 1.2, "val_mae_months": 9.0}, {"step": 3}
    )
    truncate_metrics(path, Progress(step=2, validated_epochs=1))
    assert metrics_of(tmp_path) == [
        {"step": 1},
        {"step": 2, "loss": 3.0},
        {"step": 2, "epoch": 1.2, "val_mae_months": 9.0},
    ]


@pytest.mark.fault("F1")
def test_an_incomplete_last_line_is_removed(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    truncate_metrics(path, Progress(step=5))
    assert path.read_text() == '{"step": 1}\n'


def test_a_new_run_starts_with_an_empty_file(tmp_path: Path):
    write_lines(tmp_path / "metrics.jsonl", {"step": 1}, {"step": 2})
    with MetricsLog(tmp_path, progress=Progress(), num_steps=9):
        pass
    assert metrics_of(tmp_path) == []


def test_lines_are_written_immediately_and_validations_are_also_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with MetricsLog(tmp_path, progress=Progress(), num_steps=9) as log:
        log.write_step({"step": 1, **STEP})
        log.advance()
        log.write_validation({"step": 2, **VALIDATION}, PREDICTIONS)
        assert [line["step"] for line in metrics_of(tmp_path)] == [1, 2]
    shown = capsys.readouterr().out
    assert "validation MAE 12.00 months" in shown
    assert "constant predictor 33.00" in shown
    assert shown.startswith("epoch 1  ")


def test_what_the_network_moved_is_shown_if_there_is_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(metrics_log, "PLAIN_SECONDS", 0.0)
    moved = {"bytes_fetched": 1_234_567_890, "cache_hits": 4321, "retries": 2, "waited_seconds": 12.4}
    with MetricsLog(tmp_path, progress=Progress(), num_steps=9) as log:
        log.write_step({"step": 1, **STEP})
        log.write_step({"step": 2, **STEP, **moved})
        log.write_validation({"step": 2, **VALIDATION, **moved}, PREDICTIONS)
    local, *remote = capsys.readouterr().out.splitlines()
    assert "fetched" not in local
    assert all("fetched 1,235 MB  from the cache 4,321  retries 2  network wait 12 s" in line for line in remote)


@pytest.mark.fault("E1")
def test_numbers_that_are_not_finite_are_never_written_as_invalid_json(tmp_path: Path):
    with (
        MetricsLog(tmp_path, progress=Progress(), num_steps=9) as log,
        pytest.raises(ValueError, match="not JSON compliant"),
    ):
        log.write_step({"step": 1, **STEP, "loss": float("nan")})


def test_a_validation_after_the_validated_epochs_is_removed(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    write_lines(path, {"step": 2, "epoch": 1.2, "loss": 3.0}, {"step": 2, "epoch": 1.2, "val_mae_months": 9.0})
    truncate_metrics(path, Progress(step=2, validated_epochs=0))
    assert metrics_of(tmp_path) == [{"step": 2, "epoch": 1.2, "loss": 3.0}]


@pytest.mark.parametrize(
    "damaged",
    [
        b"{",
        pytest.param(b"[" * 100_000, id="deep"),
        b"7",
        b"{}",
        b"\xff",
        b'{"step": "1"}',
        b"null",
        b'{"val_mae_months": 1, "epoch": Infinity}',
    ],
)
@pytest.mark.fault("F3")
def test_a_damaged_line_is_reported_with_its_number_and_the_file_is_not_changed(tmp_path: Path, damaged: bytes):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + damaged + b'\n{"step": 2}\n')
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line 2 is damaged"):
        truncate_metrics(path, Progress(step=2))
    assert path.read_bytes() == before


@pytest.mark.fault("B7")
def test_a_file_that_cannot_be_opened_is_reported_with_its_name(tmp_path: Path):
    with pytest.raises(WdsBoneError, match=r"gone/metrics\.jsonl"):
        MetricsLog(tmp_path / "gone", progress=Progress(), num_steps=9)


@pytest.mark.fault("E7", "F2")
def test_a_full_disk_ends_the_metrics_but_not_the_training_and_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The file is already large, so that TensorBoard's file stays far below the limit."""
    path = tmp_path / "metrics.jsonl"
    write_lines(path, *[{"step": 0}] * 1000)
    before = path.read_bytes()
    with (
        limit_file_size(path.stat().st_size),
        open_boards(tmp_path, step=0) as boards,
        MetricsLog(tmp_path, progress=Progress(), num_steps=9, boards=boards) as log,
    ):
        for step in (1, 2):
            log.write_step({"step": step, **STEP})
        log.write_validation({"step": 2, **VALIDATION}, PREDICTIONS)
    assert path.read_bytes() == before
    captured = capsys.readouterr()
    assert captured.err == f"warning: {path}: cannot be written: File too large; training continues without it\n"
    assert "validation MAE 12.00 months" in captured.out


@pytest.mark.fault("E7")
def test_a_disk_too_full_for_tensorboard_does_not_end_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """TensorBoard writes in a thread, which notices the full disk later."""
    with (
        limit_file_size(3000),
        open_boards(tmp_path, step=0) as boards,
        MetricsLog(tmp_path, progress=Progress(), num_steps=9, boards=boards) as log,
    ):
        for step in range(1, 9):
            log.write_step({"step": step, **STEP})
        log.write_validation({"step": 9, **VALIDATION}, PREDICTIONS)
    assert [line["step"] for line in metrics_of(tmp_path)] == [*range(1, 10)]
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line == f"warning: {tmp_path / 'tensorboard'}: cannot be written: File too large; training continues without it"
    )


def test_without_a_terminal_the_lines_show_the_time_of_the_run_and_what_is_left_at_the_speed_of_this_launch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The run was trained for 60 s before; 2 of 10 steps took 20 s since."""
    monkeypatch.setattr(metrics_log, "PLAIN_SECONDS", 0.0)
    with MetricsLog(tmp_path, progress=Progress(step=100), num_steps=110, elapsed_seconds=60.0) as log:
        log.write_step({**STEP, "step": 100, "elapsed_seconds": 60.0})
        log.write_step({**STEP, "step": 102, "elapsed_seconds": 80.0})
        log.write_validation({**VALIDATION, "step": 102, "elapsed_seconds": 80.0}, PREDICTIONS)
        log.write_step({**STEP, "step": 110, "elapsed_seconds": 4000.0})
    first, second, validation, last = capsys.readouterr().out.splitlines()
    assert first.endswith("  0:01:00 elapsed")
    assert second.startswith("step 102 of 110  epoch 0.50  loss 1.000  ")
    assert second.endswith("  0:01:20 elapsed, about 0:01:20 left")
    assert validation.endswith("best so far: epoch 1  0:01:20 elapsed, about 0:01:20 left")
    assert last.endswith("  1:06:40 elapsed")


def test_on_a_terminal_the_bar_counts_to_the_last_step_of_the_launch_and_the_lines_show_no_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with MetricsLog(tmp_path, progress=Progress(step=3), num_steps=9) as log:
        log.write_step({**STEP, "step": 4})
        log.advance()
        log.write_validation({**VALIDATION, "step": 4}, PREDICTIONS)
    captured = capsys.readouterr()
    assert "4/9 [" in captured.err
    assert "elapsed" not in captured.out


def draw(lines: list[dict[str, Any]]) -> bytes:
    return f"{len(lines)} lines".encode()


def test_the_learning_curve_is_drawn_at_the_end_if_there_was_a_validation(tmp_path: Path):
    with MetricsLog(tmp_path, progress=Progress(), num_steps=9, draw_curve=draw) as log:
        log.write_step({**STEP, "step": 1})
    assert not (tmp_path / "learning_curve.png").exists()
    with MetricsLog(tmp_path, progress=Progress(step=1), num_steps=9, draw_curve=draw) as log:
        log.write_validation({**VALIDATION, "step": 2}, PREDICTIONS)
        assert not (tmp_path / "learning_curve.png").exists()
    assert (tmp_path / "learning_curve.png").read_bytes() == b"2 lines"


def test_the_learning_curve_of_a_long_run_is_drawn_after_a_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics_log, "CURVE_SECONDS", 0.0)
    with MetricsLog(tmp_path, progress=Progress(), num_steps=9, draw_curve=draw) as log:
        for step in (2, 4):
            log.write_validation({**VALIDATION, "step": step}, PREDICTIONS)
            assert (tmp_path / "learning_curve.png").read_bytes() == f"{step // 2} lines".encode()


@pytest.mark.fault("E7")
def test_a_learning_curve_that_cannot_be_drawn_does_not_end_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fail(lines: list[dict[str, Any]]) -> bytes:
        raise ArithmeticError("too steep")

    monkeypatch.setattr(metrics_log, "CURVE_SECONDS", 0.0)
    with MetricsLog(tmp_path, progress=Progress(), num_steps=9, draw_curve=fail) as log:
        for step in (2, 4):
            log.write_validation({**VALIDATION, "step": step}, PREDICTIONS)
    curve = tmp_path / "learning_curve.png"
    assert capsys.readouterr().err == (f"warning: {curve}: ArithmeticError: too steep; training continues without it\n")
    assert len(metrics_of(tmp_path)) == 2


def test_an_incomplete_last_line_is_not_read(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1}]
