"""Test `predict_epoch`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checkpoints import complete_contents
from tests.learn.runs import SINGLE_RANK, SMALL_MODEL
from tests.sample_sets import age_of
from wds_bone.inference.ensemble import Ensemble, load_ensemble
from wds_bone.inference.epoch import predict_epoch
from wds_bone.model.checkpoint import save_checkpoint
from wds_bone.model.model import build_model
from wds_bone.model.preprocess import plan_preprocessing
from wds_bone.stream.stream import BoneAgeStream


@pytest.fixture
def stream(shards: Path) -> Iterator[BoneAgeStream]:
    with BoneAgeStream(shards, split="train", batch_size=4, shuffle=False, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def ensemble(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    with BoneAgeStream(shards, split="train") as stream:
        contents = complete_contents(
            config={"model": SMALL_MODEL},
            ema=build_model(SMALL_MODEL).state_dict(),
            preprocessing=plan_preprocessing(stream.image_format, None).to_json(),
            target={"mean_months": 127.0, "sd_months": 41.0},
        )
    save_checkpoint(path, contents)
    return load_ensemble([path], device="cpu")


@pytest.mark.fault("G1")
def test_every_sample_is_predicted_once_with_its_own_label(ensemble: Ensemble, stream: BoneAgeStream):
    predictions = predict_epoch(ensemble, stream, SINGLE_RANK)
    assert predictions is not None
    numbers = [int(key.removeprefix("hand-")) for key in predictions.key]
    assert sorted(numbers) == list(range(10))
    assert predictions.age_months.tolist() == [age_of(number) for number in numbers]
    assert predictions.gender.tolist() == [number % 2 for number in numbers]
    assert predictions.predicted_months.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_predictions_do_not_depend_on_the_batch(
    batch_size: int, ensemble: Ensemble, stream: BoneAgeStream, shards: Path
):
    expected = predict_epoch(ensemble, stream, SINGLE_RANK)
    with BoneAgeStream(shards, split="train", batch_size=batch_size, shuffle=False, threads=1) as other:
        predictions = predict_epoch(ensemble, other, SINGLE_RANK)
    assert predictions is not None
    assert expected is not None
    assert predictions.key == expected.key
    np.testing.assert_allclose(predictions.predicted_months, expected.predicted_months, atol=1e-3)


def test_validating_twice_gives_the_same_predictions(ensemble: Ensemble, stream: BoneAgeStream):
    first, second = (
        predict_epoch(ensemble, stream, SINGLE_RANK),
        predict_epoch(ensemble, stream, SINGLE_RANK),
    )
    assert np.array_equal(first.predicted_months, second.predicted_months)


def test_overriding_the_genders_changes_the_predictions_but_not_the_labels(ensemble: Ensemble, stream: BoneAgeStream):
    unchanged = predict_epoch(ensemble, stream, SINGLE_RANK)
    same = predict_epoch(ensemble, stream, SINGLE_RANK, gender_input=stream.genders.astype(np.float32))
    swapped = predict_epoch(ensemble, stream, SINGLE_RANK, gender_input=1 - stream.genders.astype(np.float32))
    assert np.array_equal(same.predicted_months, unchanged.predicted_months)
    assert np.array_equal(swapped.gender, unchanged.gender)
    assert np.all(swapped.predicted_months != unchanged.predicted_months)


def test_an_image_and_its_mirror_image_get_the_same_prediction(ensemble: Ensemble, stream: BoneAgeStream):
    batch, predictor = stream[0], ensemble.members[0].predictor
    torch.testing.assert_close(
        predictor.predict_months(batch.image, batch.gender), predictor.predict_months(batch.image.flip(3), batch.gender)
    )


@pytest.mark.fault("E3")
def test_giving_up_returns_no_predictions(ensemble: Ensemble, stream: BoneAgeStream):
    assert predict_epoch(ensemble, stream, SINGLE_RANK, give_up=lambda: True) is None
