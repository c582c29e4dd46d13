"""Test what a run saves: the state to resume from, the best model, and what that predicts."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from tests.learn.runs import assert_same_state, limit_file_size, train_argv
from tests.sample_sets import write_set
from wds_bone.errors import CheckpointError
from wds_bone.evaluate import main as evaluate
from wds_bone.inference.ensemble import load_ensemble
from wds_bone.inference.predictions import read_predictions
from wds_bone.inference.trained_on import count_trained_on, list_training_sets
from wds_bone.learn.metrics import absolute_errors
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.stream.stream import BoneAgeStream
from wds_bone.train import main


def damage(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.fault("F3")
def test_the_error_for_a_damaged_last_checkpoint_says_how_to_go_on_with_the_best_model(
    shards: Path, copied: Path, capsys: pytest.CaptureFixture[str]
):
    damage(copied / "last.pt")
    assert main(train_argv(shards, copied)) == 2
    assert "with --init-weights best.pt and another --out" in capsys.readouterr().err


@pytest.mark.fault("F3")
def test_resuming_from_the_best_model_is_refused_and_the_error_names_the_checkpoint_to_resume_from(
    shards: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    best, last = copied / "best.pt", copied / "last.pt"
    before = last.read_bytes()
    for out in (copied, tmp_path / "other"):
        assert main(train_argv(shards, out, "--resume", str(best))) == 2
        message = capsys.readouterr().err
        assert f"{best}: cannot be resumed" in message
        assert (
            f"do:       use --resume {last}, or start a new run from these weights with --init-weights {best}"
            in message
        )
    assert last.read_bytes() == before
    last.unlink()
    assert main(train_argv(shards, tmp_path / "other", "--resume", str(best))) == 2
    assert "do:       start a new run from these weights" in capsys.readouterr().err


def test_the_best_checkpoint_has_no_state_of_training_and_the_last_one_has(finished: Path):
    last, best = (load_checkpoint(finished / name) for name in ("last.pt", "best.pt"))
    assert last.keys() - best.keys() == {"clock", "model", "optimizer", "stream"}
    assert best.keys() - last.keys() == {"predictions_sha256"}
    weight_bytes = sum(value.nbytes for value in best["ema"].values())
    assert (finished / "best.pt").stat().st_size < 1.5 * weight_bytes
    assert (finished / "last.pt").stat().st_size > 3.5 * weight_bytes


def test_the_predictions_of_the_best_validation_are_kept_next_to_its_model(finished: Path, shards: Path):
    predictions, best = read_predictions(finished / "predictions.csv"), load_checkpoint(finished / "best.pt")
    with BoneAgeStream(shards, split="val", shuffle=False) as stream:
        assert predictions.key == stream.keys()
        assert np.array_equal(predictions.age_months, stream.ages_months)
    errors_months = absolute_errors(predictions.predicted_months, predictions.age_months)
    assert float(errors_months.mean()) == best["progress"]["best_mae_months"]
    assert hashlib.sha256((finished / "predictions.csv").read_bytes()).hexdigest() == best["predictions_sha256"]


@pytest.mark.fault("F2")
def test_predictions_whose_model_could_not_be_saved_are_replaced_when_the_run_continues(
    shards: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    assert main(train_argv(shards, out, "--max-steps", "2")) == 0
    with limit_file_size(1_000_000):
        assert main(train_argv(shards, out)) == 2
    assert "best.pt: cannot be written: File too large" in capsys.readouterr().err
    (out / "predictions.csv").write_text("of a model that is lost")
    assert main(train_argv(shards, out)) == 0
    assert (out / "predictions.csv").read_bytes() == (finished / "predictions.csv").read_bytes()
    assert_same_state(out / "best.pt", finished / "best.pt")


def test_every_checkpoint_recognizes_its_training_samples_and_no_others(finished: Path, shards: Path):
    for name in ("last.pt", "best.pt"):
        contents = load_checkpoint(finished / name)
        for split, num_found in (("train", 10), ("val", 0)):
            with BoneAgeStream(shards, split=split) as stream:
                samples = stream.keys(), stream.genders, stream.ages_months
                assert count_trained_on(contents, *samples) == num_found


def test_a_run_that_starts_from_a_checkpoint_also_records_what_that_was_trained_on(
    shards: Path, finished: Path, tmp_path: Path
):
    others, out = write_set(tmp_path / "others", size=32, train=[4, 2], val=[5]), tmp_path / "tuned"
    argv = train_argv(others, out, "--init-weights", str(finished / "best.pt"))
    for max_steps in ("1", "2"):  # the resumed run does not read the initial weights again
        assert main([*argv, "--max-steps", max_steps]) == 0
        trained_on = load_checkpoint(out / "last.pt")["trained_on"]
        assert [len(samples["hashes"]) for samples in list_training_sets(trained_on)] == [6, 10]


def test_a_run_stopped_before_its_first_validation_says_which_checkpoint_to_use(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    assert main(train_argv(shards, out, "--max-steps", "2")) == 0
    use = f"not validated yet, so there is no best.pt: use {out / 'last.pt'} to predict or evaluate"
    assert use in capsys.readouterr().out
    assert not (out / "best.pt").exists()
    with pytest.raises(CheckpointError, match=rf"use {re.escape(str(out / 'last.pt'))}"):
        load_ensemble([out / "best.pt"], device="cpu")
    load_ensemble([out / "last.pt"], device="cpu")
    with pytest.raises(CheckpointError, match="check the path and its permissions"):
        load_ensemble([out / "bets.pt"], device="cpu")


@pytest.mark.fault("E6")
def test_an_evaluation_does_not_replace_the_predictions_of_a_run(
    shards: Path, copied: Path, capsys: pytest.CaptureFixture[str]
):
    before = (copied / "predictions.csv").read_bytes()
    argv = ["--checkpoint", str(copied / "best.pt"), "--shards", str(shards), "--split", "val", "--device", "cpu"]
    assert evaluate([*argv, "--out", str(copied)]) == 2
    assert f"use another --out, such as {copied / 'evaluation'}" in capsys.readouterr().err
    assert (copied / "predictions.csv").read_bytes() == before


@pytest.mark.fault("E6")
def test_a_run_does_not_replace_the_predictions_of_an_evaluation(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "predictions.csv").write_text("key,gender,age_months,predicted_months\n")
    assert main(train_argv(shards, tmp_path)) == 2
    assert "contains the results of an evaluation" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]
