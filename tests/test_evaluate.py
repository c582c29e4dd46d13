"""`wds-bone evaluate`, from the command line to the files."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset

from tests.learn.out_of_memory import OUT_OF_MEMORY_MODEL, register_out_of_memory_model
from tests.learn.runs import limit_file_size
from tests.report.trained import (
    LETTERBOXED,
    MODEL,
    SIZE,
    distinguishing_model,
    format_of,
    shard_films,
    write_checkpoint,
    write_films,
)
from tests.sample_sets import age_of
from wds_bone.evaluate import main
from wds_bone.inference.predictions import Predictions, read_predictions, write_predictions
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.manifest import ImageFormat
from wds_bone.train import main as train

NUM_FILMS = 12
FIGURES = {f"{stem}.{ending}" for stem in ("scatter", "bland_altman", "error_boxes") for ending in ("png", "pdf")}
FILES = {"predictions.csv", "metrics.json", *FIGURES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `shards` (one split, three shards) and `best.pt`."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_films(folder / "films", NUM_FILMS)
    write_checkpoint(folder / "best.pt", format_of(shard_films(folder / "films", folder / "shards")))
    return folder


@pytest.fixture(scope="module")
def default_results(folder: Path) -> Path:
    """Return the folder of an evaluation without options, with what it printed in `printed.txt` next to it."""
    with (folder / "printed.txt").open("w") as file, redirect_stdout(file):
        assert evaluate(folder, folder / "default") == 0
    return folder / "default"


def evaluate(folder: Path, out: Path, *options: str) -> int:
    required = {"--checkpoint": folder / "best.pt", "--shards": folder / "shards"}
    missing = [word for name, path in required.items() if name not in options for word in (name, str(path))]
    return main([*missing, "--out", str(out), "--device", "cpu", *options])


def results(out: Path) -> tuple[Predictions, dict[str, Any]]:
    return read_predictions(out / "predictions.csv"), json.loads((out / "metrics.json").read_text())


def printed(out: Path) -> str:
    return (out.parent / "printed.txt").read_text()


def test_every_sample_is_predicted_once_and_keeps_its_label(default_results: Path) -> None:
    predictions, metrics = results(default_results)
    numbers = [int(key.removeprefix("film-")) for key in predictions.key]
    assert sorted(numbers) == list(range(NUM_FILMS))
    assert predictions.gender.tolist() == [number % 2 for number in numbers]
    assert predictions.age_months.tolist() == [age_of(number) for number in numbers]
    assert metrics["errors"]["all"]["num_samples"] == metrics["shards"]["num_samples"] == NUM_FILMS
    assert len(np.unique(predictions.predicted_months)) == NUM_FILMS


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 4), (5, 2)])
def test_batch_size_and_threads_do_not_change_the_predictions(
    folder: Path,
    default_results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    batch_size: int,
    threads: int,
) -> None:
    assert evaluate(folder, tmp_path, "--local-batch-size", str(batch_size), "--threads", str(threads)) == 0
    assert f"predict: {NUM_FILMS} of {NUM_FILMS} samples" in capsys.readouterr().err
    (first, _), (second, _) = results(default_results), results(tmp_path)
    assert second.key == first.key
    np.testing.assert_allclose(second.predicted_months, first.predicted_months, rtol=0, atol=1e-3)


def test_the_same_command_writes_the_same_bytes_and_replaces_older_files(
    folder: Path, default_results: Path, tmp_path: Path
) -> None:
    (tmp_path / "metrics.json").write_text("older")
    assert evaluate(folder, tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (default_results / name).read_bytes()


def test_the_metrics_record_what_they_were_measured_with(folder: Path, default_results: Path) -> None:
    _, metrics = results(default_results)
    digest = hashlib.sha256((folder / "best.pt").read_bytes()).hexdigest()
    (checkpoint,) = metrics["checkpoints"]
    assert checkpoint["sha256"] == digest
    assert checkpoint["progress"] == {"step": 7}
    assert checkpoint["preprocessing"]["image_format"]["fit"] == "letterbox"
    assert (metrics["shards"]["split"], metrics["gender_input"]) == (None, "true")
    assert re.fullmatch("[0-9a-f]{64}", metrics["shards"]["order_digest"])
    assert metrics["versions"]["torch"] == torch.__version__


def test_the_mean_absolute_error_matches_the_table(default_results: Path) -> None:
    predictions, metrics = results(default_results)
    mean_error = np.abs(predictions.predicted_months - predictions.age_months).mean()
    assert metrics["errors"]["all"]["mae_months"] == pytest.approx(mean_error, rel=1e-6)


def test_the_error_of_predicting_the_median_training_age_is_reported(default_results: Path) -> None:
    constant, out = results(default_results)[1]["constant"], printed(default_results)
    ages = np.array([age_of(number) for number in range(NUM_FILMS)])
    for name, group, median in (("all", ages, 120), ("F", ages[::2], 110), ("M", ages[1::2], 130)):
        assert constant["median_months"][name] == median
        assert constant["mae_months"][name] == pytest.approx(np.abs(group - median).mean())
        assert f"{constant['mae_months'][name]:.2f}" in out
    assert "median training age" in out


def test_swapped_genders_raise_the_ages_of_girls_and_lower_those_of_boys(
    folder: Path, default_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folder, tmp_path, "--gender", "swapped", "--split", "val") == 0
    (true, _), (swapped, metrics) = results(default_results), results(tmp_path)
    moved = swapped.predicted_months - true.predicted_months
    assert (metrics["gender_input"], metrics["shards"]["split"]) == ("swapped", "val")
    assert "given swapped genders" in capsys.readouterr().out
    assert swapped.gender.tolist() == true.gender.tolist()
    assert (np.sign(moved) == np.where(true.gender == 1, -1, 1)).all()


def test_shuffling_genders_keeps_the_numbers_of_girls_and_boys_and_is_deterministic(
    folder: Path, default_results: Path, tmp_path: Path
) -> None:
    for name, batch_size in (("a", "64"), ("b", "5")):
        assert evaluate(folder, tmp_path / name, "--gender", "shuffled", "--local-batch-size", batch_size) == 0
    (true, _), (shuffled, metrics), (again, _) = map(results, (default_results, tmp_path / "a", tmp_path / "b"))
    moved = np.sign(np.round(shuffled.predicted_months - true.predicted_months, 2))
    assert metrics["gender_input"] == "shuffled"
    assert moved.any()
    assert moved.sum() == 0
    np.testing.assert_allclose(again.predicted_months, shuffled.predicted_months, rtol=0, atol=1e-3)


def test_the_terminal_shows_the_table_and_the_paths(default_results: Path) -> None:
    (_, metrics), out = results(default_results), printed(default_results)
    assert f"{metrics['errors']['all']['mae_months']:.2f}" in out
    assert "The model was given" not in out
    assert all(str(default_results / name) in out for name in FILES)


def test_an_evaluation_that_cannot_be_compared_is_written_before_the_error(
    folder: Path, default_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The predictions may have taken hours."""
    ages = np.ones(1, np.float32)
    write_predictions(tmp_path / "predictions.csv", Predictions(["other"], ages, ages, ages))
    assert evaluate(folder, tmp_path / "out", "--against", str(tmp_path)) == 2
    captured = capsys.readouterr()
    assert "the two evaluations have no sample in common" in captured.err
    assert str(tmp_path / "out" / "metrics.json") in captured.out
    assert results(tmp_path / "out")[1] == results(default_results)[1]


def test_incomplete_results_have_no_metrics_of_an_earlier_evaluation(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("earlier")
    with limit_file_size(4096):  # enough for the predictions, too little for a figure
        assert evaluate(folder, tmp_path / "out") == 2
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.fault("C10")
def test_a_damaged_shard_is_named_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "shards", tmp_path / "shards")
    shard = tmp_path / "shards" / "val-000001.tar"
    contents = bytearray(shard.read_bytes())
    contents[contents.index(b"IDAT") + 9] ^= 1
    shard.write_bytes(contents)
    assert evaluate(folder, tmp_path / "out", "--shards", str(tmp_path / "shards")) == 2
    assert re.search(r"error: .*val-000001\.tar: sample 'film-\d+' fails its checksum", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.fault("F3")
def test_a_damaged_checkpoint_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = bytearray((folder / "best.pt").read_bytes())
    contents[len(contents) // 2] ^= 1
    (tmp_path / "best.pt").write_bytes(contents)
    assert evaluate(folder, tmp_path / "out", "--checkpoint", str(tmp_path / "best.pt")) == 2
    assert "best.pt: has changed since it was saved" in capsys.readouterr().err


def test_shards_of_another_geometry_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pt", ImageFormat("png", 48, 48, None, "letterbox"))
    assert evaluate(folder, tmp_path / "out", "--checkpoint", str(checkpoint)) == 2
    error = capsys.readouterr().err
    assert "48" in error
    assert str(SIZE) in error


@pytest.mark.fault("E1")
def test_a_model_without_finite_predictions_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = distinguishing_model()
    torch.nn.init.constant_(model.head[1].bias, torch.inf)
    checkpoint = write_checkpoint(tmp_path / "best.pt", LETTERBOXED, model=model)
    assert evaluate(folder, tmp_path / "out", "--checkpoint", str(checkpoint)) == 2
    assert f"{NUM_FILMS} predictions are not finite" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.fault("E2")
def test_too_little_memory_is_an_error_that_names_the_batch_size(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register_out_of_memory_model(monkeypatch)
    checkpoint = write_checkpoint(tmp_path / "best.pt", LETTERBOXED, name=OUT_OF_MEMORY_MODEL)
    assert evaluate(folder, tmp_path / "out", "--checkpoint", str(checkpoint)) == 2
    assert "got:      --local-batch-size 64" in capsys.readouterr().err


@pytest.mark.fault("E5")
@pytest.mark.parametrize("flag", ["--threads", "--local-batch-size"])
def test_zero_threads_and_an_empty_batch_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert evaluate(folder, tmp_path / "out", flag, "0") == 2
    assert "expected: 1 or more" in capsys.readouterr().err


@pytest.mark.fault("B7", "E5")
def test_a_folder_that_cannot_be_created_is_an_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert evaluate(folder, tmp_path / "file" / "out") == 2
    assert f"cannot be created: {tmp_path / 'file'} is not a folder" in capsys.readouterr().err
    assert evaluate(folder, tmp_path / ("x" * 300)) == 2
    assert "is too long: 300 bytes" in capsys.readouterr().err


@pytest.mark.fault("H2")
def test_keys_of_foreign_shards_cannot_become_formulas_in_the_table(tmp_path: Path) -> None:
    keys = ["=1+1", "+cmd|' C'!A0", "@x", "<script>alert(1)<_script>"]
    with (tmp_path / "foreign.tar").open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
        for number, key in enumerate(keys):
            image = encode_image(np.full((SIZE, SIZE), 10 * number, np.uint8), "png")
            tar.write({"__key__": key, "json": {"age_months": 100 + number, "gender": "F"}, "png": image})
    write_checkpoint(tmp_path / "best.pt", ImageFormat("png", SIZE, SIZE))
    assert evaluate(tmp_path, tmp_path / "out", "--shards", str(tmp_path / "foreign.tar")) == 0
    predictions, _ = results(tmp_path / "out")
    assert predictions.key == keys
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        assert [row["key"][0] for row in csv.DictReader(file)] == ["'", "'", "'", "<"]


@pytest.mark.fault("E5")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", "the following arguments are required: --out"),
        ("--out x", "no samples are named"),
        ("--out x --shards s", "no --checkpoint"),
        ("--out x --labels t.csv", "--labels without --images"),
        ("--out x --images d", "--images without --labels"),
        ("--out x --shards s --labels t.csv --images d", "--shards and --labels contradict each other"),
        ("--out x --shards s --runs r", "--shards and --runs contradict each other"),
        ("--out x --checkpoint f --labels t.csv --images d --split val", "--split has no effect with --labels"),
        ("--out x --runs r --checkpoint f", "--checkpoint has no effect with --runs"),
        ("--out x --runs r --gender swapped", "--gender has no effect with --runs"),
        ("--out x --checkpoint f --shards s --age-unit years", "--age-unit has no effect without --labels"),
    ],
)
def test_samples_must_be_named_in_exactly_one_way(
    options: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options.split()) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance_months"), [("fp32", 1e-3), ("bf16", 0.3)])
def test_evaluating_the_best_checkpoint_gives_the_error_that_training_reported(
    folder: Path, tmp_path: Path, precision: str, tolerance_months: float
) -> None:
    shards = str(folder / "shards" / "val-*.tar")
    settings = ["--model", MODEL, "--epochs", "2", "--batch-size", "4", "--device", "cpu", "--precision", precision]
    assert train(["--train", shards, "--val", shards, "--out", str(tmp_path / "run"), *settings]) == 0
    assert evaluate(folder, tmp_path / "out", "--checkpoint", str(tmp_path / "run" / "best.pt")) == 0
    _, metrics = results(tmp_path / "out")
    reported = metrics["checkpoints"][0]["progress"]["best_mae_months"]
    assert metrics["errors"]["all"]["mae_months"] == pytest.approx(reported, abs=tolerance_months)


@pytest.mark.slow
def test_the_command_can_be_run_in_its_own_process(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wds_bone.evaluate", "--checkpoint", str(folder / "best.pt")]
    rest = ["--shards", str(folder / "shards" / "val-{000000..000002}.tar"), "--out", str(tmp_path)]
    finished = subprocess.run([*command, *rest], capture_output=True, text=True, timeout=110, check=False)
    assert (finished.returncode, finished.stderr) == (0, f"predict: {NUM_FILMS} of {NUM_FILMS} samples\n")
    assert {path.name for path in tmp_path.iterdir()} == FILES


@pytest.mark.fault("B7", "E5")
def test_a_folder_that_cannot_be_written_is_an_error_before_anything_is_predicted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "metrics.json").mkdir(parents=True)
    missing = ["--checkpoint", str(folder / "missing.pt"), "--shards", str(folder / "shards"), "--out"]
    assert main([*missing, str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'out' / 'metrics.json'}: is not a file" in capsys.readouterr().err
    with limit_file_size(0):
        assert main([*missing, str(tmp_path / "full")]) == 2
    assert f"{tmp_path / 'full' / 'evaluate.lock'}: cannot be written: File too large" in capsys.readouterr().err
    assert not (tmp_path / "full").exists()
