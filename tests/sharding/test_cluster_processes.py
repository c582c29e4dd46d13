"""Test `wds-bone make-shards --scheduler` on workers that are processes: kills, signals, and workers that differ."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

from tests.sharding.clusters import Process, Scheduler, running_scheduler
from tests.sharding.film_sets import (
    SCRIPT,
    digests,
    finish,
    make,
    start,
    wait_until,
    write_films,
    writers_of,
)
from wds_bone.make_shards import main
from wds_bone.shards.manifest import STAGING_NAME
from wds_bone.verify import main as verify

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # takes several minutes on a busy machine
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system has no /proc"),
]
HANDS = ("--synthetic", "120", "--samples-per-shard", "20")
MANY_HANDS = ("--synthetic", "4000", "--samples-per-shard", "1000")
SECONDS_TO_STOP = 30  # on a busy machine; usually three


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    with running_scheduler(tmp_path_factory.mktemp("scheduler")) as running:
        yield running


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of an uninterrupted set of hands, written by this machine."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(["--out", str(out), *HANDS, "--workers", "1"]) == 0
    return digests(out)


def finish_cluster(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a command, which takes a minute on a busy machine because every worker imports torch."""
    return finish(process, seconds=400)


def folders_in_staging(out: Path) -> list[Path]:
    return [path for path in (out / STAGING_NAME).glob("*") if path.is_dir()]


def is_writing(worker: Process) -> bool:
    """Return whether a worker has an unfinished file open, even if the file has been deleted."""
    for descriptor in Path(f"/proc/{worker.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            if ".tmp" in str(descriptor.readlink()):
                return True
    return False


@pytest.mark.fault("B1", "B5", "B6")
def test_three_workers_of_which_one_is_killed_write_the_same_bytes(
    tmp_path: Path, scheduler: Scheduler, whole_set, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    with scheduler.workers(3):
        process = start(Path("out"), *HANDS, "--scheduler", scheduler.address, cwd=tmp_path)
        wait_until(lambda: len(writers_of(out)) == 3)
        assert main(["--out", str(out), *HANDS]) == 2
        assert f"process {process.pid} on " in capsys.readouterr().err
        os.kill(writers_of(out)[0], signal.SIGKILL)
        status, _, err = finish_cluster(process)
    assert status == 0, err
    assert "train + val: 120 of 120 samples" in err
    assert digests(out) == whole_set


def test_a_shard_whose_workers_are_lost_too_often_is_an_error_and_a_repeated_run_recovers(tmp_path: Path, whole_set):
    out, once = tmp_path / "out", {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    (tmp_path / "scheduler").mkdir()
    with running_scheduler(tmp_path / "scheduler", once) as scheduler:
        with scheduler.workers(2):
            process = start(out, *HANDS, "--scheduler", scheduler.address)
            wait_until(lambda: writers_of(out))
            os.kill(writers_of(out)[0], signal.SIGKILL)
            status, _, err = finish_cluster(process)
            assert status == 2
            assert "all workers that wrote this shard ended before it was finished" in err
            assert "got:      1, the last one tcp://" in err
        with scheduler.workers(1):
            assert finish_cluster(start(out, *HANDS, "--scheduler", scheduler.address))[0] == 0
    assert digests(out) == whole_set


@pytest.mark.fault("D8", "E3", "E8")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_workers_stop_with_the_command_whichever_signal_ends_it(
    tmp_path: Path, scheduler: Scheduler, sent: signal.Signals, status: int
):
    out = tmp_path / "out"
    with scheduler.workers(2) as workers:
        process = start(out, *MANY_HANDS, "--scheduler", scheduler.address)
        wait_until(lambda: len(writers_of(out)) == 2)
        process.send_signal(sent)
        assert process.wait(SECONDS_TO_STOP) == status
        wait_until(lambda: not any(map(is_writing, workers)), seconds=SECONDS_TO_STOP)
        _, err = process.communicate(timeout=SECONDS_TO_STOP)
        sentence = "" if sent == signal.SIGKILL else f"stopped by {sent.name}; run the same command again to continue\n"
        assert err.endswith(sentence)
        assert "Traceback" not in err
        assert sent == signal.SIGKILL or not folders_in_staging(out)


def test_what_a_worker_writes_after_its_run_was_killed_is_not_in_the_next_set(tmp_path: Path, scheduler: Scheduler):
    out, other = tmp_path / "out", ("--synthetic", "40", "--samples-per-shard", "20", "--workers", "1")
    assert main(["--out", str(tmp_path / "whole"), *other]) == 0
    with scheduler.workers(1) as (worker,):
        process = start(out, *MANY_HANDS, "--scheduler", scheduler.address)
        wait_until(lambda: writers_of(out))
        worker.send_signal(signal.SIGSTOP)
        process.kill()
        process.communicate(timeout=SECONDS_TO_STOP)
        assert main(["--out", str(out), *other, "--replace"]) == 0
        worker.send_signal(signal.SIGCONT)
        wait_until(lambda: not is_writing(worker))
    assert digests(out) == digests(tmp_path / "whole")
    assert verify([str(out)]) == 0


def test_a_lost_scheduler_is_an_error_and_a_repeated_run_continues_without_it(tmp_path: Path, whole_set):
    out = tmp_path / "out"
    (tmp_path / "scheduler").mkdir()
    with running_scheduler(tmp_path / "scheduler") as scheduler, scheduler.workers(2):
        process = start(out, *HANDS, "--scheduler", scheduler.address)
        wait_until(lambda: writers_of(out))
        scheduler.process.kill()
        status, _, err = finish_cluster(process)
    assert status == 2
    assert "the connection to the scheduler was lost while the shard was written" in err
    assert "Traceback" not in err
    assert main(["--out", str(out), *HANDS, "--workers", "1"]) == 0
    assert digests(out) == whole_set


def other_version(folder: Path) -> dict[str, str]:
    """Return the environment of a worker with another version of the package."""
    shutil.copytree(SCRIPT.parents[1] / "wds_bone", folder / "wds_bone", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "wds_bone" / "__init__.py"
    module.write_text(module.read_text() + '\n__version__ = "0.0.7"\n')
    return {"PYTHONPATH": str(folder)}


def much_older_version(folder: Path) -> dict[str, str]:
    """Return the environment of a worker with a version of the package that does not know clusters."""
    (folder / "wds_bone").mkdir()
    for name in ("__init__.py", "sharding.py"):  # the second is a module, where modules of an installation would be
        (folder / "wds_bone" / name).touch()
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_version, "has other versions than this command"),
        (much_older_version, "cannot import the code of this command"),
    ],
)
def test_a_worker_with_another_version_is_refused_before_any_work(
    tmp_path: Path, scheduler: Scheduler, change, message: str, capsys: pytest.CaptureFixture[str]
):
    films = write_films(tmp_path / "films", 12)
    with scheduler.workers(1), scheduler.workers(1, environment=change(tmp_path)):
        assert make(tmp_path / "out", *films, "--scheduler", scheduler.address) == 2
    err = capsys.readouterr().err
    assert "error: worker tcp://127.0.0.1:" in err
    assert message in err
    assert not list((tmp_path / "out").rglob("*.tar"))


def test_the_command_waits_for_workers_and_refuses_one_with_another_version_that_joins_late(
    tmp_path: Path, scheduler: Scheduler
):
    out, lines = tmp_path / "out", []
    process = start(out, *HANDS, "--scheduler", scheduler.address)
    assert process.stderr is not None
    wait_until(lambda: lines.append(process.stderr.readline()) or "no workers are connected" in lines[-1])
    with scheduler.workers(1, environment=other_version(tmp_path)):
        status, _, err = finish_cluster(process)
    assert status == 2
    assert "error: worker tcp://127.0.0.1:" in err
    assert "has other versions than this command" in err
    assert not list(out.rglob("*.tar"))


def has_mounts() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    mount = "mount -t tmpfs tmpfs /tmp"
    return subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, timeout=20).returncode == 0


@pytest.mark.skipif(not has_mounts(), reason="needs root and unshare to hide a folder from a worker")
@pytest.mark.parametrize(
    ("hidden", "message"),
    [("films", "does not see the films of this command, such as"), ("out", "does not see the folder of the set,")],
)
def test_a_worker_that_does_not_see_a_folder_is_named_before_any_work(
    tmp_path: Path, scheduler: Scheduler, hidden: str, message: str, capsys: pytest.CaptureFixture[str]
):
    films = write_films(tmp_path / "films", 12)
    (tmp_path / "out").mkdir()
    wrapper = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(tmp_path / hidden)]
    with scheduler.workers(1), scheduler.workers(1, wrapper=wrapper):
        assert make(tmp_path / "out", *films, "--scheduler", scheduler.address) == 2
    err = capsys.readouterr().err
    assert "error: worker tcp://127.0.0.1:" in err
    assert f"{message} {tmp_path / hidden}" in err
