"""`wds-bone evaluate --labels`: straight from films, without shards."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.report.trained import (
    MODEL,
    format_of,
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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `films`, two of them unlabeled, the others as JPEG in `shards`, and `best.pt`."""
    folder = tmp_path_factory.mktemp("films")
    write_films(folder / "films", NUM_FILMS)
    write_checkpoint(folder / "best.pt", format_of(shard_films(folder / "films", folder / "shards", encoding="jpg")))
    (folder / "films" / "unlabeled.png").symlink_to(folder / "missing")
    (folder / "films" / "notes.txt").write_text("")
    return folder


@pytest.fixture(scope="module")
def sharded(folder: Path) -> Path:
    """Return the folder of an evaluation of the shards."""
    assert evaluate(folder, folder / "sharded", "--shards", str(folder / "shards")) == 0
    return folder / "sharded"


@pytest.fixture(scope="module")
def direct(folder: Path) -> Path:
    """Return the folder of an evaluation of the films."""
    assert evaluate(folder, folder / "direct", *from_films(folder / "films")) == 0
    return folder / "direct"


@pytest.fixture
def films(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the films that a test may change."""
    return Path(shutil.copytree(folder / "films", tmp_path / "films", symlinks=True))


def evaluate(folder: Path, out: Path, *options: str) -> int:
    return main(["--checkpoint", str(folder / "best.pt"), "--out", str(out), "--device", "cpu", *options])


def from_films(films: Path) -> list[str]:
    return ["--labels", str(films / "labels.csv"), "--images", str(films)]


def results(out: Path) -> tuple[Predictions, dict[str, Any]]:
    return read_predictions(out / "predictions.csv"), json.loads((out / "metrics.json").read_text())


def rows_of(predictions: Predictions) -> dict[str, tuple[float, float, float]]:
    columns = (predictions.gender, predictions.age_months, predictions.predicted_months)
    return dict(zip(predictions.key, zip(*(column.tolist() for column in columns), strict=True), strict=True))


def test_films_have_the_same_predictions_as_in_shards(sharded: Path, direct: Path) -> None:
    (from_shards, _), (predictions, metrics) = results(sharded), results(direct)
    assert rows_of(predictions) == rows_of(from_shards)
    assert predictions.key == [f"film-{number}" for number in range(NUM_FILMS)]
    assert metrics["films"]["num_samples"] == NUM_FILMS
    assert metrics["films"]["failures"] == {}
    assert re.fullmatch("[0-9a-f]{64}", metrics["films"]["labels_sha256"])


@pytest.mark.slow
def test_films_have_the_same_predictions_as_in_shards_with_all_options(folder: Path, tmp_path: Path) -> None:
    options = ["--gender", "swapped", "--local-batch-size", "5", "--tta"]
    assert evaluate(folder, tmp_path / "a", "--shards", str(folder / "shards"), *options) == 0
    assert evaluate(folder, tmp_path / "b", *from_films(folder / "films"), *options) == 0
    assert rows_of(results(tmp_path / "b")[0]) == rows_of(results(tmp_path / "a")[0])


@pytest.mark.fault("A7")
def test_films_that_are_not_in_the_table_are_counted_and_not_opened(direct: Path) -> None:
    assert results(direct)[1]["films"]["unlabeled"] == "1 images; other files: 1 .csv, 1 .txt"


@pytest.mark.fault("H1")
def test_a_bad_film_or_row_costs_its_row_and_is_counted(
    folder: Path, direct: Path, films: Path, tmp_path: Path, capsys: Captured
) -> None:
    (films / "film-3.png").write_bytes((films / "film-3.png").read_bytes()[:90])
    (films / "film-5.png").unlink()
    (films / "film-7.png").write_bytes(b"")
    (films / "again").mkdir()
    shutil.copy(films / "film-9.png", films / "again")
    labels = (films / "labels.csv").read_text().replace(f"film-8,{age_of(8)}", "film-8,old")
    (films / "labels.csv").write_text(labels)
    assert evaluate(folder, tmp_path / "out", *from_films(films)) == 1
    predictions, metrics = results(tmp_path / "out")
    captured = capsys.readouterr()
    assert predictions.key == [f"film-{number}" for number in range(NUM_FILMS) if number not in (3, 5, 7, 8, 9)]
    assert rows_of(predictions).items() <= rows_of(results(direct)[0]).items()
    assert metrics["films"]["failures"] == {"bad age": 1, "several images": 1, "no image": 1, "bad image": 2}
    assert captured.err.count("error: ") == captured.err.count("  do:") == 5
    for name in ("film-3", "film-5", "film-7", "film-8", "film-9"):
        assert len(re.findall(rf"error: .*{name}\b", captured.err)) == 1
    causes = "1 bad age, 1 several images, 1 no image, 2 bad image"
    assert f"Not evaluated: 5 rows of the label table ({causes}), listed in failed.jsonl" in captured.out
    listed = [json.loads(line)["problem"] for line in (tmp_path / "out" / "failed.jsonl").read_text().splitlines()]
    assert [f"error: {problem}" for problem in listed] == re.findall(r"^error: .*", captured.err, re.MULTILINE)
    assert "Files without a label, not opened: 1 images" in captured.out


@pytest.mark.fault("A7", "H1")
def test_of_many_rows_without_a_film_the_first_are_printed_and_all_are_counted_and_listed(
    folder: Path, films: Path, tmp_path: Path, capsys: Captured
) -> None:
    with (films / "labels.csv").open("a") as table:
        table.writelines(f"missing-{number},{age_of(number)},True\n" for number in range(50))
    assert evaluate(folder, tmp_path / "out", *from_films(films)) == 1
    captured = capsys.readouterr()
    assert re.findall(r"error: .*'(missing-\d+)'", captured.err) == [f"missing-{number}" for number in range(10)]
    assert "error: 40 more like the 10 above: no image\n" in captured.err
    assert "Not evaluated: 50 rows of the label table (50 no image), listed in failed.jsonl" in captured.out
    assert len((tmp_path / "out" / "failed.jsonl").read_text().splitlines()) == 50
    shutil.copy(folder / "films" / "labels.csv", films)
    assert evaluate(folder, tmp_path / "out", *from_films(films)) == 0
    assert not (tmp_path / "out" / "failed.jsonl").exists()


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


@pytest.mark.slow
def test_several_checkpoints_are_evaluated_as_the_mean_of_their_predictions(
    folder: Path, direct: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    image_format = format_of(folder / "shards" / "manifest.json")
    write_checkpoint(tmp_path / "best.pt", image_format, model=build_model(MODEL))
    assert evaluate(tmp_path, tmp_path / "other", *from_films(folder / "films")) == 0
    paths = [str(folder / "best.pt"), str(tmp_path / "best.pt")]
    argv = ["--checkpoint", *paths, "--out", str(tmp_path / "both"), "--device", "cpu"]
    assert main([*argv, *from_films(folder / "films")]) == 0
    (one, _), (other, _), (both, metrics) = (results(out) for out in (direct, tmp_path / "other", tmp_path / "both"))
    np.testing.assert_array_equal(
        both.predicted_months, (one.predicted_months + other.predicted_months) / np.float32(2)
    )
    assert len({checkpoint["sha256"] for checkpoint in metrics["checkpoints"]}) == 2


CALIBRATION = Calibration(0.9, False, {"F": GenderCalibration(20, 30.0), "M": GenderCalibration(20, 50.0)}, "0" * 64)


def test_a_calibrated_checkpoint_gives_intervals_and_films_that_it_knows_are_warned_of(
    folder: Path, direct: Path, tmp_path: Path, capsys: Captured
) -> None:
    keys, numbers = [f"film-{number}" for number in range(4)], np.arange(4)
    known = describe_samples(keys, numbers % 2, np.array([age_of(number) for number in numbers]), salt="ab")
    more = {"calibration": CALIBRATION.to_json(), "trained_on": {**known, "inherited": []}}
    save_checkpoint(tmp_path / "best.pt", load_checkpoint(folder / "best.pt") | more)
    assert evaluate(tmp_path, tmp_path / "out", *from_films(folder / "films")) == 0
    (plain, _), (predictions, metrics), captured = results(direct), results(tmp_path / "out"), capsys.readouterr()
    _, expected = CALIBRATION.apply(plain.predicted_months, plain.gender)
    assert predictions.interval_months is not None
    assert predictions.interval_months.tolist() == expected.tolist()
    covered = (expected[:, 0] <= plain.age_months) & (plain.age_months <= expected[:, 1])
    assert metrics["coverage"]["all"]["num_covered"] == covered.sum()
    assert f"{covered.mean():.1%}" in captured.out
    assert f"warning: 4 of the {NUM_FILMS} samples (the first is 'film-0')" in captured.err


def test_checkpoints_of_which_only_some_are_calibrated_have_no_intervals_but_a_warning(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    torch.manual_seed(2)
    other = write_checkpoint(
        tmp_path / "x.pt", format_of(folder / "shards" / "manifest.json"), model=build_model(MODEL)
    )
    numbers = np.arange(NUM_FILMS)
    ages = np.array([age_of(number) for number in numbers])
    known = describe_samples([f"film-{number}" for number in numbers], numbers % 2, ages, salt="ab")
    more = {"calibration": CALIBRATION.to_json(), "calibrated_on": known}
    save_checkpoint(tmp_path / "calibrated.pt", load_checkpoint(other) | more)
    paths = [str(folder / "best.pt"), str(tmp_path / "calibrated.pt")]
    argv = ["--checkpoint", *paths, "--out", str(tmp_path / "out"), "--device", "cpu", *from_films(folder / "films")]
    assert main(argv) == 0
    predictions, metrics = results(tmp_path / "out")
    assert predictions.interval_months is None
    assert "coverage" not in metrics
    reason = f"because these are not calibrated: {folder / 'best.pt'}"
    assert f"warning: the predictions have no intervals, {reason}\n" in (err := capsys.readouterr().err)
    assert "coverage" not in err


def test_another_evaluation_is_compared_by_key(
    folder: Path, sharded: Path, films: Path, tmp_path: Path, capsys: Captured
) -> None:
    (films / "film-0.png").unlink()
    options = ["--gender", "swapped", "--against", str(sharded)]
    assert evaluate(folder, tmp_path / "out", *from_films(films), *options) == 1
    (theirs, _), (ours, metrics) = results(sharded), results(tmp_path / "out")
    digest = hashlib.sha256((sharded / "predictions.csv").read_bytes()).hexdigest()
    assert metrics["against"]["predictions_sha256"] == digest
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
