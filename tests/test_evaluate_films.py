"""`wds-bone evaluate --labels`: straight from films, without shards."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.report.trained import (
    MODEL,
    format_of,
    one_thread,
    shard_films,
    write_checkpoint,
    write_films,
)
from tests.sample_sets import age_of
from wds_bone.evaluate import main
from wds_bone.inference.calibration import Calibration, GenderCalibration
from wds_bone.inference.predictions import Predictions, read_predictions
from wds_bone.inference.trained_on import describe_samples
from wds_bone.model.checkpoint import load_checkpoint, save_checkpoint
from wds_bone.model.model import build_model

NUM_FILMS = 13
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a folder with `films`, the same films as JPEG in `shards`, and `best.pt`."""
    folder = tmp_path_factory.mktemp("films")
    write_films(folder / "films", NUM_FILMS)
    write_checkpoint(folder / "best.pt", format_of(shard_films(folder / "films", folder / "shards", encoding="jpg")))
    with one_thread():
        yield folder


@pytest.fixture
def films(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the films that a test may change."""
    return Path(shutil.copytree(folder / "films", tmp_path / "films"))


def evaluate(folder: Path, out: Path, *options: str) -> int:
    return main(["--checkpoint", str(folder / "best.pt"), "--out", str(out), "--device", "cpu", *options])


def from_films(films: Path) -> list[str]:
    return ["--labels", str(films / "labels.csv"), "--images", str(films)]


def results(out: Path) -> tuple[Predictions, dict[str, Any]]:
    return read_predictions(out / "predictions.csv"), json.loads((out / "metrics.json").read_text())


def rows_of(predictions: Predictions) -> dict[str, tuple[float, float, float]]:
    columns = (predictions.gender, predictions.age_months, predictions.predicted_months)
    return dict(zip(predictions.key, zip(*(column.tolist() for column in columns), strict=True), strict=True))


@pytest.mark.parametrize("options", [[], ["--gender", "swapped"], ["--local-batch-size", "5", "--tta"]])
def test_films_have_the_same_predictions_as_in_shards(folder: Path, tmp_path: Path, options: list[str]) -> None:
    assert evaluate(folder, tmp_path / "a", "--shards", str(folder / "shards"), *options) == 0
    assert evaluate(folder, tmp_path / "b", *from_films(folder / "films"), *options) == 0
    (sharded, _), (direct, metrics) = results(tmp_path / "a"), results(tmp_path / "b")
    assert rows_of(direct) == rows_of(sharded)
    assert direct.key == [f"film-{number}" for number in range(NUM_FILMS)]
    assert metrics["films"]["num_samples"] == NUM_FILMS
    assert metrics["films"]["failures"] == {}
    assert re.fullmatch("[0-9a-f]{64}", metrics["films"]["labels_sha256"])


@pytest.mark.fault("H1")
def test_a_bad_film_costs_its_row_and_is_counted(folder: Path, films: Path, tmp_path: Path, capsys: Captured) -> None:
    (films / "film-3.png").write_bytes((films / "film-3.png").read_bytes()[:90])
    (films / "film-5.png").unlink()
    (films / "film-7.png").write_bytes(b"")
    labels = (films / "labels.csv").read_text().replace(f"film-8,{age_of(8)}", "film-8,old")
    (films / "labels.csv").write_text(labels)
    assert evaluate(folder, tmp_path / "out", *from_films(films)) == 1
    predictions, metrics = results(tmp_path / "out")
    captured = capsys.readouterr()
    assert predictions.key == [f"film-{number}" for number in range(NUM_FILMS) if number not in (3, 5, 7, 8)]
    assert metrics["films"]["failures"] == {"bad age": 1, "no image": 1, "bad image": 2}
    assert captured.err.count("error: ") == 4
    for name in ("film-3", "film-5", "film-7", "film-8"):
        assert len(re.findall(rf"error: .*{name}\b", captured.err)) == 1
    assert "Not evaluated: 4 rows of the label table (1 bad age, 1 no image, 2 bad image)" in captured.out
    assert evaluate(folder, tmp_path / "all", *from_films(folder / "films")) == 0
    whole, _ = results(tmp_path / "all")
    assert rows_of(predictions).items() <= rows_of(whole).items()


@pytest.mark.fault("A7")
def test_films_that_are_not_in_the_table_are_counted_and_not_opened(
    folder: Path, films: Path, tmp_path: Path, capsys: Captured
) -> None:
    (films / "other.png").symlink_to(tmp_path / "missing")
    (films / "notes.txt").write_text("")
    assert evaluate(folder, tmp_path / "out", *from_films(films)) == 0
    assert "not opened: 1 images; other files: 1 .csv, 1 .txt" in capsys.readouterr().out


@pytest.mark.fault("A7")
def test_a_table_without_any_film_is_an_error(folder: Path, films: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.png").write_bytes(b"")
    options = ["--labels", str(films / "labels.csv"), "--images", str(tmp_path / "empty")]
    assert evaluate(folder, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert "labels.csv: no row has a film that can be predicted" in error
    assert f"got:      {NUM_FILMS} no image" in error
    assert not (tmp_path / "out").exists()


def test_the_columns_of_the_table_can_be_explained(folder: Path, films: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in (films / "labels.csv").read_text().splitlines()[1:]]
    lines = ["film;years;sex"] + [f"{key};{float(age) / 12:.6f};{'HF'[male == 'False']}" for key, age, male in rows]
    (films / "labels.csv").write_text("\n".join(lines) + "\n")
    options = ["--delimiter", ";", "--id-column", "film", "--age-column", "years", "--gender-words", "H=M", "F=F"]
    assert evaluate(folder, tmp_path / "out", *from_films(films), *options, "--age-unit", "years") == 0
    predictions, _ = results(tmp_path / "out")
    np.testing.assert_allclose(predictions.age_months, [age_of(number) for number in range(NUM_FILMS)], atol=1e-3)
    assert predictions.gender.tolist() == [number % 2 for number in range(NUM_FILMS)]


def test_several_checkpoints_are_evaluated_as_the_mean_of_their_predictions(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    torch.manual_seed(1)
    other = write_checkpoint(
        tmp_path / "other.pt", format_of(folder / "shards" / "manifest.json"), model=build_model(MODEL)
    )
    single = {}
    for name, paths in {"a": [folder / "best.pt"], "b": [other], "both": [folder / "best.pt", other]}.items():
        argv = ["--checkpoint", *map(str, paths), "--out", str(tmp_path / name), "--device", "cpu"]
        assert main([*argv, *from_films(folder / "films")]) == 0
        single[name], metrics = results(tmp_path / name)
    mean = (single["a"].predicted_months + single["b"].predicted_months) / np.float32(2)
    np.testing.assert_array_equal(single["both"].predicted_months, mean)
    assert len(metrics["checkpoints"]) == 2
    assert main([*argv[:1], *argv[1:3], "--out", str(tmp_path / "c"), "--shards", str(folder / "shards")]) == 0
    assert rows_of(results(tmp_path / "c")[0]) == rows_of(single["both"])


def test_intervals_of_a_calibrated_checkpoint_are_written_and_their_coverage_is_measured(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    genders = {"F": GenderCalibration(20, 30.0), "M": GenderCalibration(20, 50.0)}
    calibration = Calibration(0.9, False, genders, "0" * 64).to_json()
    save_checkpoint(tmp_path / "best.pt", load_checkpoint(folder / "best.pt") | {"calibration": calibration})
    assert evaluate(tmp_path, tmp_path / "a", "--shards", str(folder / "shards")) == 0
    assert evaluate(tmp_path, tmp_path / "b", *from_films(folder / "films")) == 0
    (sharded, _), (direct, metrics) = results(tmp_path / "a"), results(tmp_path / "b")
    assert sharded.interval_months is not None
    assert direct.interval_months is not None
    order = [direct.key.index(key) for key in sharded.key]
    assert sharded.interval_months.tolist() == direct.interval_months[order].tolist()
    covered = np.abs(direct.predicted_months - direct.age_months) <= np.where(direct.gender == 1, 50, 30)
    assert metrics["coverage"]["all"]["num_covered"] == covered.sum()
    assert f"{covered.mean():.1%}" in capsys.readouterr().out


def test_films_that_the_checkpoint_was_trained_on_are_warned_of(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    keys, numbers = [f"film-{number}" for number in range(4)], np.arange(4)
    trained_on = describe_samples(keys, numbers % 2, np.array([age_of(number) for number in numbers]), salt="ab")
    save_checkpoint(tmp_path / "best.pt", load_checkpoint(folder / "best.pt") | {"trained_on": trained_on})
    assert evaluate(tmp_path, tmp_path / "out", *from_films(folder / "films")) == 0
    assert f"warning: 4 of the {NUM_FILMS} samples (the first is 'film-0')" in capsys.readouterr().err


def test_another_evaluation_is_compared_by_key(folder: Path, films: Path, tmp_path: Path, capsys: Captured) -> None:
    assert evaluate(folder, tmp_path / "a", "--shards", str(folder / "shards"), "--gender", "swapped") == 0
    (films / "film-0.png").unlink()
    assert evaluate(folder, tmp_path / "b", *from_films(films), "--against", str(tmp_path / "a")) == 1
    (theirs, _), (ours, metrics) = results(tmp_path / "a"), results(tmp_path / "b")
    compared, kept = metrics["against"], [theirs.key.index(key) for key in ours.key]
    assert (compared["num_samples"], compared["num_only_here"], compared["num_only_there"]) == (NUM_FILMS - 1, 0, 1)
    differences = np.abs(ours.predicted_months - ours.age_months) - np.abs(
        theirs.predicted_months[kept] - ours.age_months
    )
    assert compared["mae_difference_months"] == pytest.approx(differences.mean(), abs=1e-4)
    out = capsys.readouterr().out
    assert f"difference {compared['mae_difference_months']:+.2f}" in out
    assert "0 only here, 1 only there" in out


def test_a_folder_without_an_evaluation_cannot_be_compared_with(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    assert evaluate(folder, tmp_path / "out", *from_films(folder / "films"), "--against", str(tmp_path)) == 2
    assert f"{tmp_path / 'predictions.csv'}: cannot be read: No such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
