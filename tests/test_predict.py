"""`wds-bone predict`, from film files to the table on standard output."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.images.broken_inputs import write_broken_images
from tests.learn.out_of_memory import OUT_OF_MEMORY_MODEL, register_out_of_memory_model
from tests.report.trained import (
    LETTERBOXED,
    SIZE,
    distinguishing_model,
    format_of,
    shard_films,
    write_checkpoint,
    write_films,
)
from wds_bone.errors import WdsBoneError
from wds_bone.evaluate import main as evaluate
from wds_bone.inference.films import BATCH_SIZE
from wds_bone.inference.predictions import read_predictions
from wds_bone.inference.rows import COLUMNS
from wds_bone.predict import main
from wds_bone.shards.manifest import ImageFormat

NUM_FILMS = 2 * BATCH_SIZE + 3
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `films` and `best.pt`."""
    folder = tmp_path_factory.mktemp("predict")
    write_films(folder / "films", NUM_FILMS)
    write_checkpoint(folder / "best.pt", LETTERBOXED)
    return folder


def film(folder: Path, number: int) -> str:
    return str(folder / "films" / f"film-{number}.png")


def predict(folder: Path, gender: str, *images: str, checkpoint: str = "best.pt") -> int:
    return main(["--checkpoint", str(folder / checkpoint), "--gender", gender, "--device", "cpu", *images])


def table(out: str) -> list[tuple[str, str, float]]:
    """Return the file, the gender and the age in months of each row."""
    header, *rows = csv.reader(io.StringIO(out, newline=""))
    assert header == [*COLUMNS]
    return [(name, gender, float(months)) for name, _, gender, months, *_ in rows]


@pytest.mark.parametrize("encoding", ["png", "npy", "jpg"])
def test_predictions_for_films_equal_those_for_the_shards_made_of_them(
    folder: Path, tmp_path: Path, capsys: Captured, encoding: str
) -> None:
    manifest = shard_films(folder / "films", tmp_path / "shards", encoding=encoding)
    checkpoint = write_checkpoint(tmp_path / "best.pt", format_of(manifest))
    inputs = ["--checkpoint", str(checkpoint), "--shards", str(manifest), "--out", str(tmp_path / "out")]
    assert evaluate([*inputs, "--device", "cpu"]) == 0
    evaluated = read_predictions(tmp_path / "out" / "predictions.csv")
    predicted = {}
    for gender, first in (("F", 0), ("M", 1)):
        capsys.readouterr()
        assert predict(tmp_path, gender, *(film(folder, number) for number in range(first, NUM_FILMS, 2))) == 0
        predicted |= {Path(name).stem: months for name, _, months in table(capsys.readouterr().out)}
    assert len(predicted) == len(set(predicted.values())) == NUM_FILMS
    months = [predicted[key] for key in evaluated.key]
    np.testing.assert_allclose(months, evaluated.predicted_months, rtol=0, atol=1e-3)


def test_the_rows_keep_the_order_of_the_arguments(folder: Path, capsys: Captured) -> None:
    names = [film(folder, number) for number in (3, 1, 4, 1, 5)]
    assert predict(folder, "M", *names) == 0
    rows = table(capsys.readouterr().out)
    assert [(name, gender) for name, gender, _ in rows] == [(name, "M") for name in names]
    assert rows[1] == rows[3]


def test_the_same_film_gets_a_higher_age_for_a_boy_than_for_a_girl(folder: Path, capsys: Captured) -> None:
    ages = {}
    for gender in "FM":
        assert predict(folder, gender, film(folder, 0)) == 0
        ((_, _, ages[gender]),) = table(capsys.readouterr().out)
    assert ages["M"] > ages["F"] + 1


@pytest.mark.fault("A8", "H1")
def test_every_broken_film_gets_its_own_error_and_the_others_are_predicted(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    patterns = write_broken_images(tmp_path)
    broken = [str(tmp_path / name) for name in patterns]
    middle = len(broken) // 2
    images = film(folder, 0), *broken[:middle], film(folder, 1), *broken[middle:], film(folder, 2)
    out = tmp_path / "ages.csv"
    assert predict(folder, "F", *images, "--out", str(out)) == 1
    assert [name for name, _, _ in table(out.read_text())] == [film(folder, number) for number in range(3)]
    lines = Path(f"{out}.failed.jsonl").read_text().splitlines()
    errors = [f"error: {WdsBoneError(**json.loads(line))}\n" for line in lines]
    assert len(errors) == len(patterns) >= 20
    for error, pattern in zip(errors, patterns.values(), strict=True):
        assert re.search(pattern, error)
    shown = capsys.readouterr().err
    counts = [int(count) for count in re.findall(r"^error: (\d+) more like the", shown, re.MULTILINE)]
    assert sum(error in shown for error in errors) + sum(counts) == len(patterns)


@pytest.mark.fault("H1")
@pytest.mark.parametrize("name", ["missing.png", ".", "*.dcm"])
def test_a_word_that_names_no_film_gets_its_own_error(
    folder: Path, tmp_path: Path, capsys: Captured, name: str
) -> None:
    assert predict(folder, "F", str(tmp_path / name), film(folder, 0)) == 1
    captured = capsys.readouterr()
    assert len(table(captured.out)) == 1
    assert captured.err.count("error: ") == captured.err.count("  do:") == 1


def test_folders_and_patterns_are_predicted_like_the_films_in_them(folder: Path, capsys: Captured) -> None:
    outputs = []
    films = sorted((folder / "films").glob("film-1*.png"))
    for words in ([str(path) for path in films], [str(folder / "films" / "film-1*.png")]):
        assert predict(folder, "F", *words) == 0
        outputs.append(capsys.readouterr())
    assert len(table(outputs[0].out)) == len(films) > 1
    assert outputs[0] == outputs[1]
    assert predict(folder, "F", str(folder / "films")) == 0
    captured = capsys.readouterr()
    assert [name for name, _, _ in table(captured.out)] == [str(path) for path in sorted(folder.glob("films/*.png"))]
    assert captured.err == "not predicted: files in the folders that are not images: 1 .csv\n"


@pytest.mark.fault("H1")
def test_paths_can_come_from_standard_input(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{film(folder, 2)}\n\n{film(folder, 3)}\r\n"))
    assert predict(folder, "F", film(folder, 1), "-", film(folder, 4)) == 0
    assert [name for name, _, _ in table(capsys.readouterr().out)] == [film(folder, number) for number in (1, 2, 3, 4)]


@pytest.mark.fault("H1")
def test_having_no_films_to_predict_is_an_error(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert predict(folder, "F", "-") == 2
    captured = capsys.readouterr()
    assert "no films to predict" in captured.err
    assert captured.out == ""
    assert predict(folder, "F") == 2


def test_every_spelling_of_a_gender_that_label_tables_accept_is_accepted(folder: Path, capsys: Captured) -> None:
    outputs = set()
    for gender in ("F", "f", "female", " Girl ", "女"):
        assert predict(folder, gender, film(folder, 0)) == 0
        outputs.add(capsys.readouterr().out)
    ((_, gender, _),) = table(outputs.pop())
    assert (gender, outputs) == ("F", set())


@pytest.mark.fault("H2")
def test_no_file_name_can_become_a_formula_in_the_table(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [
        "=1+1.png",
        "+1.png",
        "-1.png",
        "@SUM(A1).png",
        "=cmd|' C'!A0.png",
        "<script>.png",
        'a"b,c.png',
        "plain.png",
    ]
    for name in names:
        Image.fromarray(np.arange(0, 243, 3, dtype=np.uint8).reshape(9, 9)).save(name)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(names)))
    assert predict(folder, "F", "-") == 0
    shown = [name for name, _, _ in table(capsys.readouterr().out)]
    assert shown == [f"'{name}" for name in names[:5]] + names[5:]


def test_a_file_name_that_is_not_valid_utf_8_is_printed_with_escapes(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "film-\udcff.png"
    path.write_bytes(Path(film(folder, 0)).read_bytes())
    assert predict(folder, "F", str(path)) == 0
    ((name, _, _),) = table(capsys.readouterr().out)
    assert name.endswith(r"film-\udcff.png")


@pytest.mark.fault("H1")
def test_without_letterboxing_films_must_have_the_size_of_the_training_images(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    write_checkpoint(tmp_path / "best.pt", ImageFormat("png", SIZE, SIZE + 8))
    for name, width in (("fits.png", SIZE + 8), ("other.png", SIZE)):
        Image.fromarray(np.add.outer(np.arange(SIZE), np.arange(width)).astype(np.uint8)).save(tmp_path / name)
    assert predict(tmp_path, "F", str(tmp_path / "fits.png"), str(tmp_path / "other.png")) == 1
    captured = capsys.readouterr()
    assert [Path(name).name for name, _, _ in table(captured.out)] == ["fits.png"]
    assert f"expected: {SIZE + 8} x {SIZE} pixels\n  got:      {SIZE} x {SIZE}" in captured.err


def test_the_help_says_that_this_is_not_a_medical_device(capsys: Captured) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "not a medical device" in " ".join(capsys.readouterr().out.split())


@pytest.mark.fault("F3")
def test_a_file_that_is_not_a_checkpoint_is_refused(folder: Path, capsys: Captured) -> None:
    assert predict(folder, "F", film(folder, 0), checkpoint="films/labels.csv") == 2
    captured = capsys.readouterr()
    assert "labels.csv" in captured.err
    assert captured.out == ""


def test_a_model_without_finite_predictions_is_refused(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    model = distinguishing_model()
    torch.nn.init.constant_(model.head[1].bias, torch.nan)
    write_checkpoint(tmp_path / "best.pt", LETTERBOXED, model=model)
    assert predict(tmp_path, "F", film(folder, 0)) == 2
    captured = capsys.readouterr()
    assert table(captured.out) == []
    assert f"the prediction for '{film(folder, 0)}' is not finite" in captured.err


@pytest.mark.fault("E2")
def test_too_little_memory_is_an_error(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_out_of_memory_model(monkeypatch)
    write_checkpoint(tmp_path / "best.pt", LETTERBOXED, name=OUT_OF_MEMORY_MODEL)
    assert predict(tmp_path, "F", film(folder, 0)) == 2
    assert f"got:      {BATCH_SIZE} images at a time" in capsys.readouterr().err


@pytest.mark.fault("H1")
def test_if_no_film_can_be_predicted_the_last_line_says_so(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    words = [str(tmp_path / "empty.png"), str(tmp_path / "missing.png"), str(tmp_path / "*.dcm")]
    for options in ([], ["--out", str(tmp_path / "ages.csv")]):
        assert predict(folder, "F", *words, *options) == 1
        captured = capsys.readouterr()
        assert captured.err.count("error: ") == 3
        assert captured.err.splitlines()[-1] == "none of the 3 films could be predicted"
    assert (tmp_path / "ages.csv").read_text() == ",".join(COLUMNS) + "\n"


@pytest.mark.fault("H1")
def test_of_many_missing_films_the_first_are_printed_and_all_are_counted_and_listed(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    missing = [str(tmp_path / f"{number}.png") for number in range(30)]
    assert predict(folder, "F", *missing, film(folder, 0)) == 1
    captured = capsys.readouterr()
    assert re.findall(r"^error: (.*\.png): ", captured.err, re.MULTILINE) == missing[:10]
    assert "error: 20 more like the 10 above: cannot be read\n" in captured.err
    assert captured.err.endswith("30 failed; with --out FILE, all of them are listed in FILE.failed.jsonl\n")
    assert predict(folder, "F", *missing, film(folder, 0), "--out", str(tmp_path / "ages.csv")) == 1
    listed = tmp_path / "ages.csv.failed.jsonl"
    assert capsys.readouterr().out == f"{tmp_path / 'ages.csv'}: 1 predicted, 30 failed, listed in {listed}\n"
    assert len(listed.read_text().splitlines()) == 30
    assert predict(folder, "F", film(folder, 0), "--out", str(tmp_path / "ages.csv")) == 0
    assert not listed.exists()


@pytest.mark.fault("H1")
@pytest.mark.slow
def test_the_command_in_its_own_process_predicts_and_reports_what_failed(folder: Path) -> None:
    command = [sys.executable, "-m", "wds_bone.predict", "--checkpoint", str(folder / "best.pt"), "--gender", "F", "-"]
    lines = f"{film(folder, 0)}\n{folder / 'missing.png'}\n"
    finished = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=110, check=False)
    assert finished.returncode == 1
    assert [name for name, _, _ in table(finished.stdout)] == [film(folder, 0)]
    assert finished.stderr.startswith(f"error: {folder / 'missing.png'}")
