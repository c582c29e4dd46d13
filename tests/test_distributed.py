"""Test training and evaluation with several processes: same samples, same results, and how all end together."""

import csv
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.launches import (
    LaunchResult,
    finish,
    free_port,
    launch,
    process_of_rank,
    processes_of,
    started,
    torchrun,
    wait_for_lines,
)
from tests.learn.runs import assert_same_state, metrics_of, train_argv
from tests.recording import FAULT, FOLDER, keys_by_step
from tests.sample_sets import write_set
from wds_bone.model.checkpoint import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TRAIN, EVALUATE, RECORDING = "wds_bone.train", "wds_bone.evaluate", "tests.recording"
TIMEOUT = ("--set", "timeout_seconds=10")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training samples and 11 validation samples, 32 x 32 pixels."""
    return write_set(tmp_path_factory.mktemp("set") / "shards", size=32, train=[17, 3, 20], val=[6, 5])


def argv_of(shards: Path, out: Path, *more: str) -> list[str]:
    """Return the command line of a run of two epochs, which are 14 steps of 6 samples."""
    return train_argv(shards, out, "--batch-size", "6", *more)


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


def test_two_processes_have_the_same_losses_as_one_up_to_rounding(shards: Path, tmp_path: Path):
    """The model has no batch statistics or random layers, and takes 50 steps in float32."""
    plain = ["--model", "convnext_tiny", "--dropout", "0", "--drop-path", "0", "--epochs", "10", "--max-steps", "50"]
    losses = []
    for num_ranks in (1, 2):
        out = tmp_path / f"ranks-{num_ranks}"
        result = launch(num_ranks, TRAIN, *argv_of(shards, out, *plain, "--lr", "3e-4"), timeout=300)
        assert result.returncode == 0, result.stderr
        losses.append([line["loss"] for line in metrics_of(out) if "loss" in line])
    assert len(losses[0]) == 50
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    np.testing.assert_allclose(losses[1][:5], losses[0][:5], rtol=1e-5)


def test_accumulating_the_parts_of_a_batch_gives_its_gradient(shards: Path, tmp_path: Path):
    plain = ["--model", "convnext_tiny", "--dropout", "0", "--drop-path", "0", "--max-steps", "5", "--lr", "3e-4"]
    losses = []
    for num_ranks, parts in ((1, 1), (1, 3), (2, 3)):
        out = tmp_path / f"parts-{num_ranks}-{parts}"
        argv = argv_of(shards, out, *plain, "--set", f"accumulate={parts}")
        assert launch(num_ranks, TRAIN, *argv, timeout=300).returncode == 0
        losses.append([line["loss"] for line in metrics_of(out) if "loss" in line])
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
        assert result.stdout.count("95 % interval") == 1
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


@pytest.mark.fault("F3", "G2")
def test_a_damaged_checkpoint_is_reported_once(shards: Path, tmp_path: Path):
    for content in (b"", b"x"):
        (tmp_path / "last.pt").write_bytes(content)
        result = launch(2, TRAIN, *argv_of(shards, tmp_path / "run", "--resume", str(tmp_path / "last.pt"), *TIMEOUT))
        assert result.returncode != 0
        (error,) = result.errors
        assert f"{tmp_path / 'last.pt'}: is not a checkpoint, or is truncated" in error


LONG = ("--epochs", "100")


@pytest.mark.parametrize(("sent", "rank"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGSTOP, 1)])
@pytest.mark.fault("G2")
def test_if_a_rank_dies_or_hangs_all_ranks_end_and_one_reports_the_cause(
    sent: signal.Signals, rank: int, shards: Path, tmp_path: Path
):
    out = tmp_path / "run"
    with started(torchrun(2, TRAIN, *argv_of(shards, out, *LONG, *TIMEOUT))) as process:
        wait_for_lines(out, 5, process)
        os.kill(process_of_rank(process.pid, rank), sent)
        start = time.monotonic()
        result = finish(process)
        assert time.monotonic() - start < 10 + 30 + 15  # torchrun itself waits 30 seconds for a rank that hangs
    assert result.returncode != 0
    (error,) = result.errors
    assert error.startswith(f"error: rank {1 - rank} at step ")
    assert error.endswith(f": rank {rank} does not respond")


@pytest.mark.fault("G2")
def test_of_four_ranks_the_dead_one_is_reported_once_possibly_with_one_that_waits(shards: Path, tmp_path: Path):
    out = tmp_path / "run"
    with started(torchrun(4, TRAIN, *argv_of(shards, out, "--batch-size", "8", *LONG, *TIMEOUT))) as process:
        wait_for_lines(out, 3, process)
        os.kill(process_of_rank(process.pid, 2), signal.SIGKILL)
        result = finish(process)
    (error,) = result.errors
    assert re.search(r": rank (0 or |1 or )?2( or 3)? does not respond$", error)


@pytest.mark.fault("G2")
def test_an_error_on_one_rank_ends_all_ranks_and_is_reported_once_with_step_and_shard(shards: Path, tmp_path: Path):
    damaged = Path(shutil.copytree(shards, tmp_path / "damaged"))
    path = damaged / "train-000002.tar"
    contents = bytearray(path.read_bytes())
    contents[np.load(damaged / "train-000002.index.npy")["offset"][0] + 30] ^= 1
    path.write_bytes(contents)
    result = launch(2, TRAIN, *argv_of(damaged, tmp_path / "run", *TIMEOUT))
    assert result.returncode != 0
    (error,) = result.errors
    assert error.startswith("error: rank ")
    assert " at step " in error
    assert f"{path}: sample 'hand-20' fails its checksum" in error
    assert 'wds_bone/train.py", line' not in result.stderr  # no traceback from wds_bone


@pytest.mark.fault("E1", "G2")
def test_a_loss_that_is_not_finite_on_one_rank_stops_all_ranks_and_its_samples_are_reported(
    shards: Path, tmp_path: Path
):
    out = tmp_path / "run"
    result = launch(2, RECORDING, *argv_of(shards, out, *TIMEOUT), **{FOLDER: str(tmp_path), FAULT: "not finite"})
    assert result.returncode != 0
    (error,) = result.errors
    third_step = keys_by_step(tmp_path)[2]
    assert error.endswith(f"step 3: the loss or a gradient is not finite for samples {', '.join(third_step[3:])}")
    assert not (out / "last.pt").exists()


@pytest.mark.fault("G2")
def test_a_bug_on_one_rank_shows_its_traceback_and_no_other_rank_is_blamed(shards: Path, tmp_path: Path):
    argv = argv_of(shards, tmp_path / "run", *TIMEOUT)
    result = launch(2, RECORDING, *argv, **{FOLDER: str(tmp_path), FAULT: "bug"})
    assert result.returncode != 0
    assert result.errors == []
    assert result.stderr.count("RuntimeError: a bug in rank 1") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch-size", "7"], "use --batch-size 6 or 8"),
        (["--model", "resnet19"], "no classification model"),
        (["--epochs", "0"], "--epochs 0 is out of range"),
    ],
)
@pytest.mark.fault("E5", "G3")
def test_invalid_settings_are_reported_once(more: list[str], message: str, shards: Path, tmp_path: Path):
    result = launch(2, TRAIN, *argv_of(shards, tmp_path / "run", *more))
    assert result.returncode != 0
    assert len(result.errors) == 1
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def start_by_hand(stack: ExitStack, argv: list[str], **variables: str) -> list[LaunchResult]:
    """Start two processes like the launchers on two hosts; each replaces `{rank}` in `argv` with its rank."""
    port = str(free_port())
    processes = [
        stack.enter_context(
            started(
                [sys.executable, "-m", TRAIN, *(word.replace("{rank}", str(rank)) for word in argv)],
                **{"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"},
                **{"MASTER_PORT": port, **variables},
            )
        )
        for rank in range(2)
    ]
    return [finish(process) for process in processes]


@pytest.mark.parametrize("differing", ["rate", "model", "shards"])
@pytest.mark.fault("G3")
def test_ranks_with_different_settings_or_shards_stop_before_the_first_step(
    differing: str, shards: Path, tmp_path: Path
):
    other = write_set(tmp_path / "shards-1", size=32, train=[17, 3, 19], val=[6, 5])
    shutil.copytree(shards, tmp_path / "shards-0")
    trained_on = tmp_path / "shards-{rank}" if differing == "shards" else other
    lr = "0.{rank}1" if differing == "rate" else "0.01"
    model = "shufflenet_v2_x{rank}_5" if differing == "model" else "shufflenet_v2_x0_5"
    settings = ["--lr", lr, "--model", model]
    with ExitStack() as stack:
        results = start_by_hand(stack, argv_of(trained_on, tmp_path / "run", *settings, *TIMEOUT))
    assert [process.returncode for process in results] == [2, 2]
    assert sum(len(process.errors) for process in results) == 1
    stderr = results[0].stderr + results[1].stderr
    assert "ranks 0 and 1 disagree about what to do" in stderr
    named = {"rate": "config.lr 0.01", "model": "config.model shufflenet_v2_x0_5", "shards": "order_digests.train"}
    assert named[differing] in stderr
    assert not (tmp_path / "run").exists()


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


@pytest.mark.fault("G3")
def test_an_incomplete_launch_and_a_port_in_use_are_errors(shards: Path, tmp_path: Path):
    argv = argv_of(shards, tmp_path / "run", *TIMEOUT)
    with started([sys.executable, "-m", TRAIN, *argv], RANK="0", WORLD_SIZE="2") as process:
        result = finish(process)
    assert result.returncode == 2
    assert "no LOCAL_RANK, MASTER_ADDR, MASTER_PORT" in result.stderr
    launched = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with started([sys.executable, "-m", TRAIN, *argv], **launched, MASTER_PORT=port) as process:
            result = finish(process)
    assert result.returncode == 2
    assert f"the processes cannot connect to each other at 127.0.0.1:{port}" in result.stderr
    assert "address already in use" in result.stderr


@pytest.mark.fault("E3")
def test_a_launcher_stopped_at_random_steps_loses_nothing(shards: Path, tmp_path: Path):
    """Each of twenty SIGTERMs leads to a checkpoint within 20 seconds; the result is that of an uninterrupted run."""
    settings = ["--epochs", "60", "--model", "shufflenet_v2_x0_5"]
    assert launch(2, TRAIN, *argv_of(shards, tmp_path / "whole", *settings)).returncode == 0
    out, generator, num_stopped, num_lines = tmp_path / "stopped", random.Random(3), 0, 0
    while num_stopped < 20:
        with started(torchrun(2, TRAIN, *argv_of(shards, out, *settings))) as process:
            num_lines += generator.randint(1, 15)
            wait_for_lines(out, num_lines, process)
            pids = processes_of(process.pid)
            process.send_signal(signal.SIGTERM)
            finish(process, timeout=20)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        num_stopped += 1
        lines = metrics_of(out)
        assert load_checkpoint(out / "last.pt")["progress"]["step"] >= max(line["step"] for line in lines)
        num_lines = len(lines)
    assert launch(2, TRAIN, *argv_of(shards, out, *settings)).returncode == 0
    assert_same_state(out / "last.pt", tmp_path / "whole" / "last.pt")
    assert_same_state(out / "best.pt", tmp_path / "whole" / "best.pt")
    assert metrics_of(out) == metrics_of(tmp_path / "whole")
