"""Test training and evaluation with several processes: the same samples and the same results."""

import csv
import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.launches import (
    EVALUATE,
    RECORDING,
    TRAIN,
    argv_of,
    launch,
    start_by_hand,
)
from tests.learn.runs import assert_same_state, metrics_of
from tests.recording import FOLDER, keys_by_step
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.train import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.fault("F4", "G1")
def test_a_run_resumes_with_any_number_of_processes_and_every_step_has_the_same_samples(shards: Path, tmp_path: Path):
    """Promises 1 to 3 hold under `torchrun`, with 2 processes, then 1, then 3."""
    for name, stages in {"whole": [(1, "14")], "parts": [(2, "5"), (1, "8"), (3, "14")]}.items():
        (tmp_path / name).mkdir()
        for num_ranks, step in stages:
            argv = argv_of(shards, tmp_path / name / "run", "--max-steps", step)
            result = launch(num_ranks, RECORDING, *argv, **{FOLDER: str(tmp_path / name)})
            assert result.returncode == 0, result.stderr
            assert load_checkpoint(tmp_path / name / "run" / "last.pt")["progress"]["step"] == int(step)
    whole, parts = keys_by_step(tmp_path / "whole"), keys_by_step(tmp_path / "parts")
    assert list(whole) == list(range(14))
    assert whole == parts
    flat = [key for keys in whole.values() for key in keys]
    assert len(set(flat[:40])) == len(set(flat[40:80])) == 40
    assert [line["step"] for line in metrics_of(tmp_path / "parts" / "run")] == [
        line["step"] for line in metrics_of(tmp_path / "whole" / "run")
    ]


def test_a_process_that_is_launched_alone_has_the_weights_of_one_without_a_launcher(shards: Path, tmp_path: Path):
    """It exchanges values with itself, through DDP, which must change no bit."""
    assert main(argv_of(shards, tmp_path / "alone", "--set", "accumulate=2")) == 0
    result = launch(1, TRAIN, *argv_of(shards, tmp_path / "launched", "--set", "accumulate=2"))
    assert result.returncode == 0, result.stderr
    assert_same_state(tmp_path / "launched" / "last.pt", tmp_path / "alone" / "last.pt")
    assert_same_state(tmp_path / "launched" / "best.pt", tmp_path / "alone" / "best.pt")


PLAIN = ["--model", "convnext_tiny", "--dropout", "0", "--drop-path", "0", "--lr", "3e-4"]
"""A model without batch statistics or random layers."""
OTHERS = ["--image-size", "64", "--set", "first_size=0.5", "rare_ages=1.0", "age_bins=31", "gender_fusion=heads"]


def losses_of(shards: Path, out: Path, *more: str, num_ranks: int) -> list[float]:
    """Return the loss of each step of a run."""
    result = launch(num_ranks, TRAIN, *argv_of(shards, out, *PLAIN, *more), timeout=300)
    assert result.returncode == 0, result.stderr
    return [line["loss"] for line in metrics_of(out) if "loss" in line]


def test_two_processes_have_the_same_losses_as_one_up_to_rounding(shards: Path, tmp_path: Path):
    """The model takes 50 steps in float32, at a rate so low that they hardly multiply earlier differences."""
    steps = ("--epochs", "10", "--max-steps", "50", "--lr", "1e-4")
    losses = [losses_of(shards, tmp_path / f"ranks-{num}", *steps, num_ranks=num) for num in (1, 2)]
    assert len(losses[0]) == 50
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(losses[1][:5], losses[0][:5], rtol=1e-5)


@pytest.mark.parametrize("others", [[], OTHERS], ids=["as usual", "growing images, other loss"])
def test_the_ranks_and_parts_of_a_batch_give_its_gradient(others: list[str], shards: Path, tmp_path: Path):
    losses = [
        losses_of(
            shards,
            tmp_path / f"parts-{num_ranks}-{parts}",
            *("--max-steps", "5", *others, "--set", f"accumulate={parts}"),
            num_ranks=num_ranks,
        )
        for num_ranks, parts in ((1, 1), (1, 3), (2, 3))
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-4)


@pytest.fixture(scope="module")
def checkpoint(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run with two processes and batch norms."""
    out = tmp_path_factory.mktemp("run") / "run"
    assert launch(2, TRAIN, *argv_of(shards, out)).returncode == 0
    return out / "last.pt"


@pytest.mark.fault("G1")
def test_an_evaluation_is_the_same_with_any_number_of_processes(checkpoint: Path, shards: Path, tmp_path: Path):
    tables, errors = [], []
    for num_ranks in (1, 2, 3):
        out = tmp_path / f"ranks-{num_ranks}"
        argv = ["--checkpoint", str(checkpoint), "--shards", str(shards), "--split", "val", "--out", str(out)]
        result = launch(num_ranks, EVALUATE, *argv, "--local-batch-size", "2", "--device", "cpu")
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("MAE to compare with:") == 1
        tables.append((out / "predictions.csv").read_bytes())
        errors.append(json.loads((out / "metrics.json").read_text())["errors"])
    assert tables[0] == tables[1] == tables[2]
    assert errors[0] == errors[1] == errors[2]
    rows = list(csv.DictReader(tables[0].decode().splitlines()))
    assert sorted(row["key"] for row in rows) == sorted(f"hand-{number}" for number in range(40, 51))


@pytest.mark.fault("G1")
def test_all_ranks_have_and_validate_the_same_model(checkpoint: Path, shards: Path, tmp_path: Path):
    """Rank 0 saved the model that all ranks validated: evaluating it with one process gives the logged error."""
    argv = ["--checkpoint", str(checkpoint), "--shards", str(shards), "--split", "val", "--out", str(tmp_path / "out")]
    assert launch(1, EVALUATE, *argv, "--local-batch-size", "6", "--device", "cpu").returncode == 0
    alone = json.loads((tmp_path / "out" / "metrics.json").read_text())["errors"]["all"]["mae_months"]
    together = [line["val_mae_months"] for line in metrics_of(checkpoint.parent) if "val_mae_months" in line]
    assert alone == pytest.approx(together[-1], abs=1e-6)


@pytest.mark.fault("F4")
def test_with_three_processes_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(shards: Path, tmp_path: Path):
    """The sum of two values does not depend on their order, but with three ranks the order must be the same."""
    for name, steps in {"whole": ["9"], "parts": ["2", "3", "9"]}.items():
        for step in steps:
            assert launch(3, TRAIN, *argv_of(shards, tmp_path / name, "--max-steps", step)).returncode == 0
    assert_same_state(tmp_path / "parts" / "last.pt", tmp_path / "whole" / "last.pt")


@pytest.mark.fault("F4")
def test_each_host_may_have_its_own_copy_of_the_shards_and_only_the_first_host_has_the_run(
    shards: Path, tmp_path: Path
):
    """The same holds when the run is resumed: the others receive the checkpoint from rank 0."""
    for rank in range(2):
        shutil.copytree(shards, tmp_path / f"shards-{rank}")
    for step in ("2", "4"):
        argv = argv_of(tmp_path / "shards-{rank}", tmp_path / "run-{rank}", "--max-steps", step)
        with ExitStack() as stack:
            results = start_by_hand(stack, argv)
        assert [process.returncode for process in results] == [0, 0], results
        assert load_checkpoint(tmp_path / "run-0" / "last.pt")["progress"]["step"] == int(step)
        assert not (tmp_path / "run-1").exists()
