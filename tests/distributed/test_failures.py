"""Test how several processes end together: after a signal, and when one of them fails."""

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
    RECORDING,
    TRAIN,
    argv_of,
    finish,
    launch,
    process_of_rank,
    processes_of,
    start_by_hand,
    started,
    torchrun,
    wait_for_lines,
)
from tests.learn.runs import assert_same_state, metrics_of
from tests.recording import FAULT, FOLDER, keys_by_step
from tests.sample_sets import write_set
from wds_bone.model.checkpoint import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TIMEOUT = ("--set", "timeout_seconds=10")


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


@pytest.mark.fault("E5", "G3")
def test_invalid_settings_are_reported_once_even_if_the_first_process_starts_late(shards: Path, tmp_path: Path):
    late = "import os, time\nif os.environ.get('LOCAL_RANK') == '0':\n    time.sleep(15)\n"
    (tmp_path / "sitecustomize.py").write_text(late)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = launch(2, TRAIN, *argv_of(shards, tmp_path / "run", "--epochs", "0"), PYTHONPATH=paths)
    (error,) = result.errors
    assert "--epochs 0 is out of range" in error


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
@pytest.mark.parametrize("num_stops", [6, pytest.param(20, marks=pytest.mark.stress)])
def test_a_launcher_stopped_at_random_steps_loses_nothing(num_stops: int, shards: Path, tmp_path: Path):
    """Each SIGTERM leads to a checkpoint within 20 seconds; the result is that of an uninterrupted run."""
    settings = ["--epochs", str(3 * num_stops), "--model", "shufflenet_v2_x0_5"]
    assert launch(2, TRAIN, *argv_of(shards, tmp_path / "whole", *settings)).returncode == 0
    out, generator, num_stopped, num_lines = tmp_path / "stopped", random.Random(3), 0, 0
    while num_stopped < num_stops:
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
