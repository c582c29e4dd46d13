"""`wds-bone calibrate`, from the command line to the calibrated checkpoint."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checkpoints import complete_contents
from tests.report.test_pooling import write_fold
from tests.report.trained import (
    LETTERBOXED,
    shard_films,
    write_checkpoint,
    write_films,
)
from wds_bone.calibrate import main
from wds_bone.inference.calibration import Calibration
from wds_bone.inference.ensemble import load_ensemble
from wds_bone.inference.from_films import predict_labeled_films
from wds_bone.inference.labeled import Batching
from wds_bone.inference.predictions import Predictions
from wds_bone.inference.trained_on import describe_training_samples
from wds_bone.model.checkpoint import can_be_resumed, load_checkpoint, save_checkpoint
from wds_bone.report.calibration import calibrated_on_warning

NUM_FILMS = 12
LEVEL = ("--level", "0.8")  # needs 4 samples of each gender
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `films`, the same films in `shards`, and `best.pt`, which was trained on other films.

    The ages in the label table are nearly the predictions plus 20 months, because a line must fit them.
    """
    folder = tmp_path_factory.mktemp("calibrate")
    write_films(folder / "films", NUM_FILMS)
    write_checkpoint(folder / "best.pt", LETTERBOXED)
    write_trained_on(folder / "best.pt", ["other"], [94])
    predictions = predict(folder / "best.pt", folder)
    rows = [
        f"{key},{round(float(months)) + 20 + number % 5},{bool(number % 2)}\n"
        for number, (key, months) in enumerate(zip(predictions.key, predictions.predicted_months, strict=True))
    ]
    (folder / "films" / "labels.csv").write_text("".join(["id,boneage,male\n", *rows]))
    shard_films(folder / "films", folder / "shards")
    return folder


def predict(checkpoint: Path, folder: Path) -> Predictions:
    """Return the predictions and intervals for the films of the folder, as `evaluate` computes them."""
    device = torch.device("cpu")
    ensemble, films = load_ensemble([checkpoint], device=device), folder / "films"
    batching = Batching(batch_size=64, threads=1)
    return predict_labeled_films(ensemble, films / "labels.csv", [films], batching=batching, device=device).predictions


def write_trained_on(path: Path, keys: list[str], ages: list[float]) -> None:
    """Let a checkpoint say that it was trained on films of boys with these keys and ages."""
    described = describe_training_samples(keys, np.ones(len(keys)), np.array(ages), salt="00ff")
    save_checkpoint(path, load_checkpoint(path) | {"trained_on": described})


def calibrate(checkpoint: Path, out: Path, *options: str) -> int:
    return main(["--checkpoint", str(checkpoint), "--out", str(out), "--device", "cpu", *LEVEL, *options])


def from_shards(folder: Path) -> list[str]:
    return ["--shards", str(folder / "shards")]


def from_films(films: Path) -> list[str]:
    return ["--labels", str(films / "labels.csv"), "--images", str(films)]


def calibration_of(path: Path) -> Calibration:
    return Calibration.from_json(load_checkpoint(path)["calibration"])


@pytest.mark.parametrize("correct", [False, True])
def test_the_copy_predicts_the_intervals_that_fit_the_errors(
    folder: Path, tmp_path: Path, correct: bool, capsys: Captured
) -> None:
    before = (folder / "best.pt").read_bytes()
    assert calibrate(folder / "best.pt", tmp_path / "c.pt", *from_shards(folder), *["--correct"] * correct) == 0
    assert (folder / "best.pt").read_bytes() == before
    out = capsys.readouterr().out
    plain, calibrated = predict(folder / "best.pt", folder), predict(tmp_path / "c.pt", folder)
    expected = Calibration.fit(plain, 0.8, correct=correct)
    assert calibration_of(tmp_path / "c.pt") == expected
    assert f"+/- {expected.genders['F'].half_width_months:.1f} months, from 6 samples" in out
    assert out.endswith(f"{tmp_path / 'c.pt'}\n")
    corrected, interval = expected.apply(plain.predicted_months, plain.gender)
    assert plain.interval_months is None
    assert calibrated.interval_months is not None
    assert np.array_equal(calibrated.predicted_months, corrected)
    assert np.array_equal(calibrated.interval_months, interval)


def test_films_give_the_same_calibration_as_their_shards(folder: Path, tmp_path: Path) -> None:
    assert calibrate(folder / "best.pt", tmp_path / "a.pt", *from_shards(folder), "--correct") == 0
    assert calibrate(folder / "best.pt", tmp_path / "b.pt", *from_films(folder / "films"), "--correct") == 0
    assert calibration_of(tmp_path / "a.pt") == calibration_of(tmp_path / "b.pt")


def test_calibrating_again_starts_from_the_model_and_not_from_its_correction(folder: Path, tmp_path: Path) -> None:
    assert calibrate(folder / "best.pt", tmp_path / "a.pt", *from_shards(folder), "--correct") == 0
    assert calibrate(tmp_path / "a.pt", tmp_path / "b.pt", *from_shards(folder), "--correct") == 0
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_the_copy_has_what_prediction_needs_and_no_state_of_training(folder: Path, tmp_path: Path) -> None:
    assert calibrate(folder / "best.pt", tmp_path / "c.pt", *from_shards(folder)) == 0
    before, after = load_checkpoint(folder / "best.pt"), load_checkpoint(tmp_path / "c.pt")
    assert can_be_resumed(before)
    assert not {"stream", "model", "optimizer"} & after.keys()
    assert after.keys() - before.keys() == {"calibrated_on"}
    assert after["config"] == before["config"]


def test_the_copy_recognizes_the_films_of_its_calibration(folder: Path, tmp_path: Path) -> None:
    assert calibrate(folder / "best.pt", tmp_path / "c.pt", *from_shards(folder)) == 0
    (member,) = load_ensemble([tmp_path / "c.pt"], device="cpu").members
    warning = calibrated_on_warning(member.contents, predict(tmp_path / "c.pt", folder), where="c.pt")
    assert warning is not None
    assert warning.startswith(f"warning: {NUM_FILMS} of the {NUM_FILMS} samples")


def test_training_samples_are_refused(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    checkpoint = Path(shutil.copy(folder / "best.pt", tmp_path))
    predictions = predict(checkpoint, folder)
    write_trained_on(checkpoint, ["other", "film-3"], [94, predictions.age_months[3]])
    assert calibrate(checkpoint, tmp_path / "c.pt", *from_shards(folder)) == 2
    error = capsys.readouterr().err
    assert "was trained on some of these samples" in error
    assert "1 of 12 with key, gender and age of a training sample, such as 'film-3'" in error
    assert not (tmp_path / "c.pt").exists()


def test_a_checkpoint_that_does_not_record_its_training_samples_is_warned_of(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    checkpoint = Path(shutil.copy(folder / "best.pt", tmp_path))
    save_checkpoint(checkpoint, load_checkpoint(checkpoint) | {"trained_on": None})
    assert calibrate(checkpoint, tmp_path / "c.pt", *from_shards(folder)) == 0
    assert "does not record all of its training samples" in capsys.readouterr().err


def test_too_few_films_are_refused_with_the_number_that_is_needed(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert calibrate(folder / "best.pt", tmp_path / "c.pt", *from_shards(folder), "--level", "0.9") == 2
    assert "expected: at least 9 girls\n  got:      6" in capsys.readouterr().err
    assert not (tmp_path / "c.pt").exists()


def test_a_correction_from_few_films_is_warned_of(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    assert calibrate(folder / "best.pt", tmp_path / "c.pt", *from_shards(folder), "--correct") == 0
    assert "the correction for girls is based on 6 samples" in capsys.readouterr().err


def test_an_existing_file_is_never_replaced(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    checkpoint = Path(shutil.copy(folder / "best.pt", tmp_path))
    before = checkpoint.read_bytes()
    assert calibrate(checkpoint, checkpoint, *from_shards(folder)) == 2
    assert f"--out {checkpoint}: exists" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before


def test_a_folder_that_does_not_exist_is_refused_before_anything_is_read(tmp_path: Path, capsys: Captured) -> None:
    assert calibrate(tmp_path / "missing.pt", tmp_path / "new" / "c.pt", "--shards", str(tmp_path)) == 2
    assert "its folder does not exist" in capsys.readouterr().err


def test_a_bad_film_costs_its_row_and_the_exit_code(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    films = Path(shutil.copytree(folder / "films", tmp_path / "films"))
    (films / "film-3.png").write_bytes(b"not a film")
    assert calibrate(folder / "best.pt", tmp_path / "c.pt", *from_films(films)) == 1
    listed = tmp_path / "c.pt.failed.jsonl"
    assert len(listed.read_text().splitlines()) == 1
    assert "film-3.png" in capsys.readouterr().err
    assert calibration_of(tmp_path / "c.pt").genders["M"].num_samples == 5


def test_the_predictions_of_folds_calibrate_the_model_of_each_fold(tmp_path: Path, capsys: Captured) -> None:
    runs = [write_fold(tmp_path / f"fold-{fold}", fold) for fold in range(3)]
    options = ["--runs", *map(str, runs)]
    for run in runs:
        assert calibrate(run / "best.pt", run / "calibrated.pt", *options) == 0
    first, *others = [calibration_of(run / "calibrated.pt") for run in runs]
    assert first == others[0] == others[1]
    assert (first.genders["F"].num_samples, first.genders["M"].num_samples) == (5, 5)
    assert first.genders["F"].half_width_months == 2.0


def test_a_checkpoint_that_is_not_from_the_runs_is_refused(tmp_path: Path, capsys: Captured) -> None:
    runs = [write_fold(tmp_path / f"fold-{fold}", fold) for fold in range(3)]
    save_checkpoint(tmp_path / "other.pt", complete_contents())
    assert calibrate(tmp_path / "other.pt", tmp_path / "c.pt", "--runs", *map(str, runs)) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'other.pt'}: is not the best.pt of one of these runs" in error
    assert f"use --checkpoint {runs[0] / 'best.pt'}" in error
