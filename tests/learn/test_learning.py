"""Test that a small model learns age and gender."""

from pathlib import Path

import numpy as np
import pytest

from tests.learn.bars import GENDER_SHIFT_MONTHS, write_bars
from tests.learn.runs import SINGLE_RANK, metrics_of
from wds_bone.inference.ensemble import load_ensemble
from wds_bone.inference.epoch import predict_epoch
from wds_bone.stream.stream import BoneAgeStream
from wds_bone.train import main


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_model_learns_age_and_gender(tmp_path: Path):
    write_bars(tmp_path / "train.tar", num_samples=800, seed=1)
    write_bars(tmp_path / "val.tar", num_samples=200, seed=2)
    names = ["--train", str(tmp_path / "train.tar"), "--val", str(tmp_path / "val.tar"), "--out", str(tmp_path / "run")]
    assert main([*names, "--model", "resnet18", "--epochs", "8", "--batch-size", "32", "--device", "cpu"]) == 0
    last = metrics_of(tmp_path / "run")[-1]
    assert last["constant_mae_months"] > 40
    assert last["val_mae_months"] < 12
    ensemble = load_ensemble([tmp_path / "run" / "best.pt"], device="cpu")
    with BoneAgeStream(tmp_path / "val.tar", shuffle=False) as stream:
        unchanged = predict_epoch(ensemble, stream, SINGLE_RANK)
        swapped = predict_epoch(ensemble, stream, SINGLE_RANK, gender_input=1 - stream.genders.astype(np.float32))
    older_if_girl = (unchanged.predicted_months - swapped.predicted_months) * np.where(unchanged.gender == 0, 1, -1)
    assert older_if_girl.mean() == pytest.approx(GENDER_SHIFT_MONTHS, abs=8)
