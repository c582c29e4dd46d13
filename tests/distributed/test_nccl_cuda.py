"""Test a launch with one process on one CUDA device, which exchanges values through NCCL with itself."""

from pathlib import Path

import pytest
from torch import nn

from tests.cuda import DEVICE, ON_CUDA
from tests.launches import EVALUATE, TRAIN, argv_of, launch
from tests.learn.runs import SMALL_MODEL, metrics_of
from wds_bone.distributed.ddp import convert_sync_batch_norm
from wds_bone.evaluate import main as evaluate
from wds_bone.model.model import build_model
from wds_bone.train import main

pytestmark = [*ON_CUDA, pytest.mark.timeout(400)]
ON_DEVICE = ("--device", DEVICE.type)


def losses_of(shards: Path, out: Path, *more: str) -> list[float]:
    result = launch(1, TRAIN, *argv_of(shards, out, *ON_DEVICE, *more))
    assert result.returncode == 0, result.stderr
    return [line["loss"] for line in metrics_of(out) if "loss" in line]


def test_a_launched_process_trains_and_evaluates_like_one_without_a_launcher(shards: Path, tmp_path: Path) -> None:
    assert main(argv_of(shards, tmp_path / "alone", *ON_DEVICE)) == 0
    alone = [line["loss"] for line in metrics_of(tmp_path / "alone") if "loss" in line]
    assert losses_of(shards, tmp_path / "launched")[:5] == pytest.approx(alone[:5], rel=1e-2)
    checkpoint, report = str(tmp_path / "launched" / "best.pt"), tmp_path / "report"
    options = ["--shards", str(shards), "--split", "val", "--out", str(report), *ON_DEVICE]
    assert launch(1, EVALUATE, "--checkpoint", checkpoint, *options).returncode == 0
    assert (report / "metrics.json").exists()


def test_a_launched_process_resumes(shards: Path, tmp_path: Path) -> None:
    whole = losses_of(shards, tmp_path / "whole")
    losses_of(shards, tmp_path / "parts", "--max-steps", "5")
    assert losses_of(shards, tmp_path / "parts")[:7] == pytest.approx(whole[:7], rel=1e-2)


def test_synchronized_batch_norms_of_one_process_equal_ordinary_ones(shards: Path, tmp_path: Path) -> None:
    converted = convert_sync_batch_norm(build_model(SMALL_MODEL).to(DEVICE))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    usual = losses_of(shards, tmp_path / "usual")
    synchronized = losses_of(shards, tmp_path / "synchronized", "--set", "sync_batch_norm=true")
    assert synchronized[:5] == pytest.approx(usual[:5], rel=1e-2)
    options = ["--shards", str(shards), "--split", "val", "--out", str(tmp_path / "report"), *ON_DEVICE]
    assert evaluate(["--checkpoint", str(tmp_path / "synchronized" / "best.pt"), *options]) == 0
