"""`wds-bone predict` on the films of a ward: films of several kinds, some of them broken, and a table of genders."""

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import wds_bone
from tests.images.dicom_films import dicom_bytes
from tests.inference.test_ensemble import calibrated
from tests.report.trained import LETTERBOXED, distinguishing_model, write_checkpoint
from wds_bone.inference.rows import COLUMNS
from wds_bone.predict import main

NUM_FILMS = 60
BROKEN = ("film-16", "film-41")
"""The first is a page of text under the name of a JPEG, the second a DICOM film without its end."""
Captured = pytest.CaptureFixture[str]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `ward`, a folder of 60 films, 2 of them broken, the table `genders.csv`, and checkpoints."""
    folder = tmp_path_factory.mktemp("hospital")
    rows = ["file;Sex", *(f"{name};{['female', 'Male'][n % 2]}" for n, name in enumerate(write_ward(folder / "ward")))]
    (folder / "genders.csv").write_text("\n".join(rows) + "\n")
    other = distinguishing_model()
    torch.nn.init.constant_(other.head[1].bias, 0.3)
    write_checkpoint(folder / "plain.pt", LETTERBOXED)
    calibrated(folder / "plain.pt", half_width=11.3, out=folder / "best.pt")
    calibrated(write_checkpoint(folder / "x.pt", LETTERBOXED, model=other), half_width=20.0, out=folder / "other.pt")
    return folder


def write_ward(ward: Path) -> list[str]:
    """Write PNG, JPEG and DICOM films, the latter without suffix in a subfolder, and return the names of all."""
    (ward / "cd").mkdir(parents=True)
    names = [f"film-{number:02}" for number in range(NUM_FILMS)]
    for number, name in enumerate(names):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 5), np.uint8)
        film = Image.fromarray(coarse).resize((30 + number % 7, 50 - number % 5), Image.Resampling.BICUBIC)
        if number % 3 == 2:
            (ward / "cd" / name).write_bytes(dicom_bytes(np.asarray(film).astype(np.uint16) * 16))
        else:
            film.save(ward / f"{name}{('.png', '.jpg')[number % 3]}")
    page, truncated = ward / f"{BROKEN[0]}.jpg", ward / "cd" / BROKEN[1]
    page.write_text("<html>404 Not Found</html>")
    truncated.write_bytes(truncated.read_bytes()[:-99])
    return names


def predict(folder: Path, *words: str, checkpoints: tuple[str, ...] = ("best.pt",)) -> int:
    paths = [str(folder / name) for name in checkpoints]
    return main(["--checkpoint", *paths, "--device", "cpu", *words])


def in_table(folder: Path, table: str = "genders.csv") -> list[str]:
    return ["--table", str(folder / table), "--images", str(folder / "ward"), "--delimiter", ";"]


def read_csv(text: str) -> Rows:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = list(reader)
    assert reader.fieldnames == [*COLUMNS]
    return rows


def months_of(rows: Rows, column: str = "predicted_months") -> list[np.float32]:
    return [np.float32(row[column]) for row in rows]


@pytest.mark.fault("H1")
def test_a_ward_is_predicted_in_one_command_as_from_python_to_the_digit(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert predict(folder, *in_table(folder), "--out", str(tmp_path / "new" / "ages.csv")) == 1
    captured = capsys.readouterr()
    out = tmp_path / "new" / "ages.csv"
    assert captured.out == f"{out}: 58 predicted, 2 failed, listed in {out}.failed.jsonl\n"
    listed = [json.loads(line) for line in Path(f"{out}.failed.jsonl").read_text().splitlines()]
    assert [list(line) for line in listed] == [["problem", "expected", "got", "do"]] * 2
    assert [f"error: {line['problem']}" for line in listed] == re.findall("^error: .*", captured.err, re.MULTILINE)
    assert re.findall(r"^error: .*/(film-\d\d)", captured.err, re.MULTILINE) == [*BROKEN]
    assert captured.err.count("  do:") == 2
    rows = read_csv((tmp_path / "new" / "ages.csv").read_text())
    assert [row["key"] for row in rows] == [f"film-{n:02}" for n in range(NUM_FILMS) if f"film-{n:02}" not in BROKEN]
    assert {Path(row["file"]).suffix for row in rows} == {".png", ".jpg", ""}
    assert {(int(row["key"][-2:]) % 2, row["gender"]) for row in rows} == {(0, "F"), (1, "M")}
    assert all(re.fullmatch(r"\d+ y \d+ m", row["predicted_age"]) for row in rows)

    model = wds_bone.load_model(folder / "best.pt")
    films, genders = [row["file"] for row in rows], [row["gender"] for row in rows]
    assert months_of(rows) == model.predict(films, genders).tolist()
    limits = np.stack([months_of(rows, "low_months"), months_of(rows, "high_months")], axis=1)
    assert limits.tolist() == model.predict_interval(films, genders).tolist()
    assert {row["checkpoint_sha256"] for row in rows} == {model.ensemble.sha256}


def test_a_table_a_folder_and_standard_input_give_the_same_rows(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predict(folder, *in_table(folder)) == 1
    of_table = {row["file"]: row for row in read_csv(capsys.readouterr().out)}
    assert predict(folder, "--gender", "boy", "--", str(folder / "ward")) == 1
    boys = read_csv(capsys.readouterr().out)
    assert len(boys) == len(of_table) == 58
    assert all(row == of_table[row["file"]] for row in boys if of_table[row["file"]]["gender"] == "M")
    girls = [name for name, row in of_table.items() if row["gender"] == "F"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(girls)))
    assert predict(folder, "--gender", "F", "--", "-") == 0
    assert read_csv(capsys.readouterr().out) == [of_table[name] for name in girls]


def test_json_lines_have_the_values_of_the_csv(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    words = ["--gender", "F", str(folder / "ward" / "film-0*")]
    for name in ("ages.csv", "ages.jsonl"):
        assert predict(folder, *words, "--out", str(tmp_path / name), checkpoints=("plain.pt",)) == 0
    rows = read_csv((tmp_path / "ages.csv").read_text())
    lines = [json.loads(line) for line in (tmp_path / "ages.jsonl").read_text().splitlines()]
    assert months_of(lines) == months_of(rows)
    assert {(line["low_months"], line["high_months"]) for line in lines} == {(None, None)}
    assert {(row["low_months"], row["high_months"]) for row in rows} == {("", "")}
    others = [name for name in COLUMNS if "months" not in name]
    assert [[line[name] for name in others] for line in lines] == [[row[name] for name in others] for row in rows]
    assert capsys.readouterr().err == ""


def test_several_checkpoints_are_averaged(folder: Path, capsys: Captured) -> None:
    words = ["--gender", "F", str(folder / "ward" / "film-0*")]
    rows, errors = {}, []
    for names in (("best.pt",), ("other.pt",), ("best.pt", "other.pt"), ("best.pt", "x.pt")):
        assert predict(folder, *words, checkpoints=names) == 0
        captured = capsys.readouterr()
        rows[names] = read_csv(captured.out)
        errors.append(captured.err)
    reason = f"because these are not calibrated: {folder / 'x.pt'}"
    assert errors == ["", "", "", f"warning: the predictions have no intervals, {reason}\n"]
    one, two, both, uncalibrated = rows.values()
    for column in ("predicted_months", "low_months", "high_months"):
        means = np.mean([months_of(one, column), months_of(two, column)], axis=0)
        np.testing.assert_allclose(months_of(both, column), means, rtol=1e-6)
    assert {row["low_months"] for row in uncalibrated} == {""}
    parts = both[0]["checkpoint_sha256"].split("+")
    assert sorted(parts) == sorted([one[0]["checkpoint_sha256"], two[0]["checkpoint_sha256"]])


def test_more_views_change_the_prediction_a_little(folder: Path, capsys: Captured) -> None:
    words = ["--gender", "F", str(folder / "ward" / "film-0*")]
    months = []
    for option in ("--no-tta", "--tta"):
        assert predict(folder, option, *words) == 0
        months.append(np.array(months_of(read_csv(capsys.readouterr().out))))
    assert 0 < np.abs(months[0] - months[1]).max() < 20


def test_the_gender_can_come_from_each_dicom_film(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    film = np.add.outer(np.arange(40), np.arange(30)).astype(np.uint16) * 50
    for name, sex in {"a": "F", "b": "M", "c": "O"}.items():
        (tmp_path / name).write_bytes(dicom_bytes(film, PatientSex=sex))
    assert predict(folder, "--gender-from-dicom", str(tmp_path)) == 1
    captured = capsys.readouterr()
    rows = read_csv(captured.out)
    assert [(row["key"], row["gender"]) for row in rows] == [("a", "F"), ("b", "M")]
    assert len(set(months_of(rows))) == 2
    assert f"error: {tmp_path / 'c'}: PatientSex is not a gender" in captured.err


@pytest.mark.fault("A5", "A7", "H1")
def test_rows_without_a_film_are_errors_and_films_without_a_row_are_counted(folder: Path, capsys: Captured) -> None:
    (folder / "few.csv").write_text("id;sex\nfilm-00;F\nfilm-99;F\nfilm-01;\n")
    assert predict(folder, *in_table(folder, "few.csv")) == 1
    captured = capsys.readouterr()
    assert [row["key"] for row in read_csv(captured.out)] == ["film-00"]
    assert f"{folder / 'few.csv'}: line 3: id 'film-99': no film of this name" in captured.err
    assert f"{folder / 'few.csv'}: line 4: id 'film-01': the gender is missing" in captured.err
    assert f"not predicted: files without a row in {folder / 'few.csv'}: 38 images; other files: 20 " in captured.err


@pytest.mark.fault("A4", "H1")
def test_a_table_without_genders_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    (folder / "ages.csv").write_text("id;boneage\nfilm-00;94\n")
    assert predict(folder, *in_table(folder, "ages.csv"), "--out", str(tmp_path / "out.csv")) == 2
    assert "no column holds the gender" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("B7")
def test_the_file_is_complete_or_keeps_its_old_contents(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    broken = distinguishing_model()
    torch.nn.init.constant_(broken.head[1].bias, torch.nan)
    write_checkpoint(tmp_path / "nan.pt", LETTERBOXED, model=broken)
    assert predict(tmp_path, "--gender", "F", str(folder / "ward"), "--out", str(out), checkpoints=("nan.pt",)) == 2
    assert "is not finite" in capsys.readouterr().err
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nan.pt", "out.csv"]


def test_the_progress_is_shown_on_a_terminal_above_which_errors_are_printed(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert predict(folder, *in_table(folder), "--out", str(tmp_path / "out.csv")) == 1
    err = capsys.readouterr().err
    assert "predict: 100%" in err
    assert "60/60 [" in err
    errors = [line for line in re.split(r"[\r\n]", err) if "error: " in line]
    assert [line.startswith("error: ") for line in errors] == [True, True]
    assert predict(folder, "--gender", "F", str(folder / "ward" / "film-00.png"), "--out", str(tmp_path / "x.csv")) == 0
