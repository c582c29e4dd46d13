import json
from pathlib import Path
from typing import Any

import pytest

from wds_bone.learn.journal import Journal, keep_lines, read_metrics

STEP = {"epoch": 0.5, "samples": 8, "loss": 1.0, "lr": 0.1, "images_per_second": 9.0, "wait_fraction": 0.0}
VALIDATION = {
    "epoch": 1.0,
    "val_mae_months": 12.0,
    "val_mae_low_months": 11.0,
    "val_mae_high_months": 13.0,
    "constant_mae_months": 33.0,
    "best_epoch": 1,
}


def write_lines(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_lines_past_the_resumed_step_are_cut_and_the_others_kept(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    write_lines(path, {"step": 1}, {"step": 2, "loss": 3.0}, {"step": 2, "val_mae_months": 9.0}, {"step": 3})
    keep_lines(path, step=2)
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2, "loss": 3.0}, {"step": 2, "val_mae_months": 9.0}]


def test_a_last_line_that_was_cut_short_is_dropped(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    keep_lines(path, step=5)
    assert path.read_text() == '{"step": 1}\n'


def test_a_run_that_begins_anew_begins_with_an_empty_file(tmp_path: Path):
    write_lines(tmp_path / "metrics.jsonl", {"step": 1}, {"step": 2})
    with Journal(tmp_path, step=0, num_steps=9):
        pass
    assert read_metrics(tmp_path) == []


def test_lines_are_in_the_file_at_once_and_validations_on_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with Journal(tmp_path, step=0, num_steps=9) as journal:
        journal.write_step({"step": 1, **STEP})
        journal.advance()
        journal.write_validation({"step": 2, **VALIDATION})
        assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    shown = capsys.readouterr().out
    assert "validation MAE 12.00 months" in shown
    assert "constant predictor 33.00" in shown


def test_numbers_that_are_not_finite_never_become_broken_json(tmp_path: Path):
    with Journal(tmp_path, step=0, num_steps=9) as journal, pytest.raises(ValueError, match="not JSON compliant"):
        journal.write_step({"step": 1, **STEP, "loss": float("nan")})
