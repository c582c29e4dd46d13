"""Test `wds_bone.load_model`: the numbers of the command, from Python."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import wds_bone
from tests.inference.test_ensemble import calibrated
from tests.report.trained import LETTERBOXED, SIZE, distinguishing_model, write_checkpoint, write_films
from wds_bone.errors import CheckpointError, ConfigError, ImageError, WdsBoneError
from wds_bone.inference.films import BATCH_SIZE
from wds_bone.inference.loaded import LoadedModel
from wds_bone.predict import main as predict

DOCUMENT = Path(__file__).parents[2] / "docs" / "python.md"
NUM_FILMS = BATCH_SIZE + 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `films`, and with `best.pt`, which is calibrated."""
    folder = tmp_path_factory.mktemp("loaded")
    write_films(folder / "films", NUM_FILMS)
    write_checkpoint(folder / "plain.pt", LETTERBOXED)
    calibrated(folder / "plain.pt", half_width=7.3, out=folder / "best.pt")
    return folder


@pytest.fixture(scope="module")
def films(folder: Path) -> list[Path]:
    return [folder / "films" / f"film-{number}.png" for number in range(NUM_FILMS)]


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return wds_bone.load_model(folder / "best.pt")


def test_the_numbers_are_those_of_the_command(
    folder: Path, films: list[Path], model: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--checkpoint", str(folder / "best.pt"), "--gender", "F", "--device", "cpu"]
    assert predict([*options, *map(str, films[::-1])]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    months = model.predict([*films, *films], ["F"] * NUM_FILMS + ["M"] * NUM_FILMS)
    assert months.dtype == np.float32
    assert [np.float32(row["predicted_months"]) for row in rows[::-1]] == months[:NUM_FILMS].tolist()
    assert len(set(months.tolist())) == 2 * NUM_FILMS


def test_files_arrays_and_pictures_can_be_mixed(films: list[Path], model: LoadedModel) -> None:
    picture = Image.open(films[2])
    mixed = model.predict([str(films[0]), np.asarray(Image.open(films[1])), picture], ["F", "M", "F"])
    assert mixed.tolist() == model.predict(films[:3], ["F", "M", "F"]).tolist()


def test_the_interval_is_around_the_prediction(films: list[Path], model: LoadedModel) -> None:
    genders: Any = ["F", "M", "M"]
    months, interval = model.predict(films[:3], genders), model.predict_interval(films[:3], genders)
    assert interval.dtype == np.float32
    assert interval.shape == (3, 2)
    np.testing.assert_allclose(interval, np.stack([months - 7.3, months + 7.3], 1), rtol=1e-5)


def test_no_films_give_empty_arrays(model: LoadedModel) -> None:
    assert model.predict([], []).shape == (0,)
    assert model.predict_interval([], []).shape == (0, 2)


def test_a_checkpoint_without_calibration_has_no_intervals(folder: Path, films: list[Path]) -> None:
    plain = wds_bone.load_model(str(folder / "plain.pt"))
    assert plain.predict(films[:1], ["F"]).shape == (1,)
    with pytest.raises(CheckpointError, match=r"plain\.pt: the checkpoint is not calibrated"):
        plain.predict_interval(films[:1], ["F"])


def test_the_parts_of_the_model_give_the_same_ages(films: list[Path], model: LoadedModel) -> None:
    stored = torch.from_numpy(np.array(Image.open(films[0]).resize((SIZE, SIZE))))[None, None]
    prepared = model.preprocessing.to_input(stored)
    assert isinstance(model.model, torch.nn.Module)
    with torch.no_grad():
        views = [model.model(view, torch.zeros(1)) for view in (prepared, prepared.flip(3))]
    assert model.preprocessing.image_format == LETTERBOXED
    months = float(model.target.to_months(torch.stack(views).mean()))
    assert months == pytest.approx(float(model.predict([stored[0, 0].numpy()], ["F"])[0]), abs=1e-3)


@pytest.mark.fault("A8")
def test_the_first_bad_film_is_raised(films: list[Path], model: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(films[0].read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"bad\.png"):
        model.predict([films[0], tmp_path / "bad.png", np.zeros((3, 3))], ["F"] * 3)
    with pytest.raises(ImageError, match=r"films\[1\]: the array is not a film"):
        model.predict([films[0], np.zeros((3, 3))], ["F"] * 2)


@pytest.mark.parametrize(
    ("genders", "message"),
    [
        (["F"], "2 films, 1 genders"),
        (["F", "f"], r"genders\[1\] is not a gender"),
        (["F", None], r"genders\[1\] is not a gender"),
        ([0, 1], r"genders\[0\] is not a gender"),
        ([np.array(["F"]), "F"], r"genders\[0\] is not a gender"),
        ("FM", "genders is not a list"),
        (np.array(["F", "M"]), r"(?s)genders is not a list.*list\(genders\) for several"),
        (iter("FM"), "genders is not a list"),
    ],
)
def test_a_gender_is_never_guessed(films: list[Path], model: LoadedModel, genders: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model.predict(films[:2], genders)


def test_films_must_be_in_a_list_even_a_single_one(films: list[Path], model: LoadedModel) -> None:
    array = np.asarray(Image.open(films[0]))
    for film in (films[0], str(films[0]), array, Image.fromarray(array), None, iter(films)):
        with pytest.raises(ConfigError, match="films is not a list"):
            model.predict(film, ["F"])  # type: ignore[arg-type]


def test_a_model_without_finite_predictions_is_refused(films: list[Path], tmp_path: Path) -> None:
    broken = distinguishing_model()
    torch.nn.init.constant_(broken.head[1].bias, torch.nan)
    loaded = wds_bone.load_model(write_checkpoint(tmp_path / "best.pt", LETTERBOXED, model=broken))
    with pytest.raises(WdsBoneError, match=r"best\.pt: the prediction for '.*film-0\.png' is not finite"):
        loaded.predict(films[:1], ["F"])


def test_an_unknown_or_missing_device_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        wds_bone.load_model(folder / "best.pt", device="gpu")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match='or use device="cpu"'):
            wds_bone.load_model(folder / "best.pt", device="cuda")


def test_the_programs_in_the_documentation_run(
    folder: Path, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("runs/first", "ward"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "runs/first/calibrated.pt").write_bytes((folder / "best.pt").read_bytes())
    for name, film in zip(("4360.png", "1377.png"), films, strict=False):
        (tmp_path / "ward" / name).write_bytes(film.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for program in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        exec(program, names)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("ward/4360.png: ")
    assert shown[1].startswith("error: ward/missing.png")
    assert names["limits"].shape == (2, 2)
    assert names["saliency"].shape == (1, 1, SIZE, SIZE)
