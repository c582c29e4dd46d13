from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.report.trained import (
    LETTERBOXED,
    MODEL,
    SIZE,
    distinguishing_model,
    write_checkpoint,
    write_films,
)
from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.inference.calibration import Calibration, GenderCalibration
from wds_bone.inference.ensemble import Ensemble, load_ensemble
from wds_bone.inference.films import Outcome, predict_films
from wds_bone.model.checkpoint import load_checkpoint, save_checkpoint
from wds_bone.shards.manifest import ImageFormat

CPU = torch.device("cpu")
ASCENDING = np.linspace(20, 200, 7, dtype=np.float32)
GENDER = np.array([0, 1, 0, 1, 0, 1, 0], np.float32)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three checkpoints with different weights."""
    folder, paths = tmp_path_factory.mktemp("checkpoints"), []
    for number in range(3):
        model = distinguishing_model()
        torch.nn.init.constant_(model.head[1].bias, 0.1 * number)
        paths.append(write_checkpoint(folder / f"{number}.pt", LETTERBOXED, model=model))
    return paths


def calibrated(path: Path, *, half_width: float, out: Path, intercept: float = 0.0) -> Path:
    """Write a copy of a checkpoint with intervals."""
    gender = GenderCalibration(num_samples=99, half_width_months=half_width, intercept_months=intercept)
    calibration = Calibration(0.9, corrects=False, genders={"F": gender, "M": gender}, samples_sha256="")
    save_checkpoint(out, load_checkpoint(path) | {"calibration": calibration.to_json()})
    return out


def images(num_images: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (num_images, 1, 4, 4), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear").to(torch.uint8)


def test_one_checkpoint_predicts_what_its_predictor_does(checkpoints: list[Path]) -> None:
    ensemble = load_ensemble(checkpoints[:1], device="cpu")
    image, gender = images(7), torch.from_numpy(GENDER)
    months, interval = ensemble.combine(ensemble.predict_members(image, gender).numpy(), GENDER)
    assert np.array_equal(months, ensemble.members[0].predictor.predict_months(image, gender).numpy())
    assert interval is None
    assert ensemble.sha256 == sha256(checkpoints[0].read_bytes()).hexdigest()
    assert "ema" not in ensemble.members[0].contents
    assert ensemble.members[0].contents["config"] == {"model": MODEL}


def test_the_prediction_is_the_mean_whatever_the_order_of_the_checkpoints(checkpoints: list[Path]) -> None:
    image, gender = images(7), torch.from_numpy(GENDER)
    single = [load_ensemble([path], device="cpu").predict_members(image, gender)[0].numpy() for path in checkpoints]
    found = []
    for paths in (checkpoints, checkpoints[::-1]):
        ensemble = load_ensemble(paths, device="cpu")
        found.append((ensemble.sha256, *ensemble.combine(ensemble.predict_members(image, gender).numpy(), GENDER)))
    assert found[0][0] == found[1][0] == "+".join(sorted(sha256(path.read_bytes()).hexdigest() for path in checkpoints))
    assert np.array_equal(found[0][1], found[1][1])
    assert found[0][1].dtype == np.float32
    np.testing.assert_allclose(found[0][1], np.mean(single, 0), rtol=1e-6)
    assert np.ptp(single, 0).min() > 1


@pytest.mark.parametrize("num_members", [1, 2, 9])
def test_the_mean_of_a_film_does_not_depend_on_the_number_of_films(checkpoints: list[Path], num_members: int) -> None:
    member = load_ensemble(checkpoints[:1], device="cpu").members[0]
    ensemble = Ensemble((member,) * num_members)
    predicted = np.random.default_rng(0).normal(120, 40, (num_members, 500)).astype(np.float32)
    together, _ = ensemble.combine(predicted, np.zeros(500, np.float32))
    alone = [ensemble.combine(predicted[:, [film]], np.zeros(1, np.float32))[0][0] for film in range(500)]
    assert together.tolist() == alone


def test_the_limits_are_the_means_of_the_limits_of_the_members(checkpoints: list[Path], tmp_path: Path) -> None:
    paths = [
        calibrated(path, half_width=width, intercept=shift, out=tmp_path / path.name)
        for path, width, shift in zip(checkpoints, (6.0, 12.0, 18.0), (0.0, 3.0, 0.0), strict=True)
    ]
    ensemble = load_ensemble(paths, device="cpu")
    assert ensemble.is_calibrated
    months, interval = ensemble.combine(np.stack([ASCENDING] * 3), GENDER)
    assert interval is not None
    assert interval.dtype == months.dtype == np.float32
    np.testing.assert_allclose(months, ASCENDING + 1, rtol=1e-6)
    np.testing.assert_allclose(interval[:, 0], ASCENDING + 1 - 12, rtol=1e-5)
    np.testing.assert_allclose(interval[:, 1], ASCENDING + 1 + 12, rtol=1e-5)


def test_there_are_no_intervals_if_a_member_is_not_calibrated(checkpoints: list[Path], tmp_path: Path) -> None:
    path = calibrated(checkpoints[0], half_width=9, out=tmp_path / "best.pt")
    ensemble = load_ensemble([path, checkpoints[1]], device="cpu")
    assert not ensemble.is_calibrated
    assert ensemble.combine(np.stack([ASCENDING] * 2), GENDER)[1] is None
    single = load_ensemble([path], device="cpu").combine(ASCENDING[None], GENDER)[1]
    assert single is not None
    assert single.shape == (7, 2)


def test_members_may_be_trained_on_images_of_different_formats(checkpoints: list[Path], tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", 5)
    larger = ImageFormat("jpg", 2 * SIZE, 2 * SIZE, 95, "letterbox")
    model = distinguishing_model()
    torch.nn.init.constant_(model.head[1].bias, 0.5)
    other = write_checkpoint(tmp_path / "other.pt", larger, model=model)

    def months(*paths: Path) -> list[np.float32]:
        ensemble = load_ensemble(paths, device="cpu")
        outcomes = predict_films(ensemble, films, ["F"] * 5, device=CPU, threads=1)
        return [outcome.months for outcome in outcomes if isinstance(outcome, Outcome)]

    together, first, second = months(checkpoints[0], other), months(checkpoints[0]), months(other)
    np.testing.assert_allclose(together, np.mean([first, second], 0), rtol=1e-6)
    ensemble = load_ensemble([checkpoints[0], other], device="cpu")
    assert {asdict(image_format)["height"] for image_format in ensemble.image_formats} == {SIZE, 2 * SIZE}
    with pytest.raises(ConfigError, match="height 64"):
        ensemble.refuse_other_format(LETTERBOXED, where="shards")


def test_the_same_checkpoint_twice_is_refused(checkpoints: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(checkpoints[0].read_bytes())
    with pytest.raises(ConfigError, match="more than once") as raised:
        load_ensemble([*checkpoints, copy], device="cpu")
    assert str(copy) in str(raised.value)
    assert str(checkpoints[1]) not in str(raised.value)


def test_a_checkpoint_and_its_calibrated_copy_are_the_same_model(checkpoints: list[Path], tmp_path: Path) -> None:
    copy = calibrated(checkpoints[0], half_width=9, out=tmp_path / "calibrated.pt")
    with pytest.raises(ConfigError, match="the same model is given more than once") as raised:
        load_ensemble([checkpoints[0], checkpoints[1], copy], device="cpu")
    error = raised.value
    assert set(str(error.got).split(", ")) == {str(checkpoints[0]), str(copy)}
    assert error.do == f"leave all but one of them out; {copy} has intervals"
    assert len(load_ensemble([checkpoints[1], copy], device="cpu").members) == 2


def test_no_checkpoint_is_refused() -> None:
    with pytest.raises(ConfigError, match="no checkpoint"):
        load_ensemble([], device="cpu")


@pytest.mark.parametrize("broken", [{}, {"level": 0.9, "genders": {}}, {"genders": {"F": 1, "M": 2}}])
def test_a_calibration_of_another_version_is_refused(checkpoints: list[Path], tmp_path: Path, broken: Any) -> None:
    save_checkpoint(tmp_path / "best.pt", load_checkpoint(checkpoints[0]) | {"calibration": broken})
    with pytest.raises(CheckpointError, match=r"best\.pt: the calibration"):
        load_ensemble([tmp_path / "best.pt"], device="cpu")
