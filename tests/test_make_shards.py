"""Test `wds-bone make-shards`: its options, its output, and what remains after kills and failures."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tests.sharding.film_sets import (
    DEADLINE_SECONDS,
    SCRIPT,
    digests,
    finish,
    make,
    start,
    wait_until,
    write_films,
    writers_of,
)
from wds_bone.config import options_of
from wds_bone.make_shards import main, plan_set
from wds_bone.sharding.settings import MakeShardsConfig
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME, read_manifest
from wds_bone.stream.selection import select_shards
from wds_bone.verify import main as verify

OPTIONS = [
    *("labels", "images", "out", "split", "val-fraction", "size", "encoding", "quality", "stretch"),
    *("samples-per-shard", "workers", "scheduler", "allow-host", "seed", "on-bad", "max-bad"),
    *("synthetic", "replace"),
    *("id-column", "patient-column", "age-column", "gender-column", "gender-is", "age-unit"),
    *("gender-words", "delimiter", "id-width", "safe-keys"),
]


def test_the_command_has_exactly_these_options():
    # A new option needs a reason; change this list and docs/data.md together.
    assert [field.name.replace("_", "-") for field in fields(MakeShardsConfig)] == OPTIONS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "x.csv"], "--labels without --images"),
        (["--images", "films"], "--images without --labels"),
        (["--gender-is", "male"], "--gender-is without --labels"),
        (["--gender-words", "1=M"], "--gender-words without --labels"),
        (["--safe-keys"], "--safe-keys without --labels"),
        (["--patient-column", "patient"], "--patient-column without --labels"),
        (["--labels", "x", "--images", "x", "--gender-words", "男"], "--gender-words: '男' is not a word and a gender"),
        (["--labels", "x", "--images", "x", "--delimiter", "x"], "--delimiter: unknown choice"),
        (["--labels", "x", "--images", "x", "--id-width", "0"], "--id-width "),
        (["--labels", "x.csv", "--images", "x", "--synthetic", "5"], "--labels and --synthetic contradict"),
        (["--split", "test", "--val-fraction", "0.1"], "--split and --val-fraction contradict"),
        (["--on-bad", "skip"], "--on-bad skip and --max-bad must be given together"),
        (["--max-bad", "3"], "--on-bad skip and --max-bad must be given together"),
        (["--split", "../etc"], "--split "),
        (["--split", "a/b"], "--split "),
        (["--split", ""], "--split "),
        (["--size", "0"], "--size "),
        (["--size", "100000"], "--size "),
        (["--quality", "101"], "--quality "),
        (["--val-fraction", "1"], "--val-fraction "),
        (["--val-fraction", "nan"], "--val-fraction "),
        (["--samples-per-shard", "0"], "--samples-per-shard "),
        (["--workers", "0"], "--workers "),
        (["--workers", "2", "--scheduler", "tcp://host:8786"], "--scheduler and --workers contradict"),
        (["--scheduler", ""], "--scheduler  is not valid"),
        (["--synthetic", "0"], "--synthetic "),
        (["--labels", "x", "--images", "x", "--stretch", "5"], "wds-bone make-shards: argument --stretch"),
        (["--labels", "x", "--images", "x", "--stretch", "99", "1"], "--stretch "),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    assert main(["--out", str(tmp_path / "out"), *arguments]) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["runs::1", "out/x::y", "pipe:x"])
def test_the_folder_of_a_set_may_have_a_name_that_other_tools_treat_as_a_command(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert make(Path(name), *write_films(Path("films"), 6)) == 0
    assert (tmp_path / name / MANIFEST_NAME).exists()


def test_by_default_2000_synthetic_hands_of_128_pixels_are_written_to_the_folder_shards():
    plan = plan_set(MakeShardsConfig(synthetic=20))
    assert MakeShardsConfig().out == "shards"
    assert (plan.image.encoding, plan.image.quality, plan.image.height) == ("jpg", 95, 128)
    assert {split.name: split.num_samples for split in plan.splits} == {"train": 18, "val": 2}
    assert "default without --labels: 2000" in options_of(MakeShardsConfig)["synthetic"].help


def test_an_error_in_the_label_table_is_reported_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    films = write_films(tmp_path / "films", 5)
    table = tmp_path / "films" / "labels.csv"
    table.write_text(table.read_text().replace("hand-3,112,True", "hand-3,1120,True"))
    assert make(tmp_path / "out", *films) == 2
    assert "labels.csv: line 5" in capsys.readouterr().err


def staged_files(out: Path) -> int:
    return len(list((out / STAGING_NAME).glob("*")))


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system has no /proc")
HANDS = ("--synthetic", "24", "--size", "64", "--samples-per-shard", "8", "--workers", "2")


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of an uninterrupted set of hands, written by one worker."""
    out = tmp_path_factory.mktemp("whole") / "out"
    status, text, err = finish(start(out, *HANDS[:-1], "1"))
    assert (status, err.count("error")) == (0, 0)
    assert "train: 22 samples in 3 shards" in text
    return digests(out)


@pytest.mark.slow
def test_the_script_runs_from_any_folder_without_installation(tmp_path: Path, whole_set):
    command = [sys.executable, "-P", str(SCRIPT), "--out", "out", *HANDS]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert subprocess.run(command, cwd=tmp_path, env=environment, timeout=DEADLINE_SECONDS).returncode == 0
    assert verify([str(tmp_path / "out"), "--deep"]) == 0


@pytest.mark.slow
def test_the_writers_of_a_checkout_are_its_own_even_if_another_version_is_installed(tmp_path: Path):
    root, copy = SCRIPT.parents[1], tmp_path / "checkout"
    shutil.copytree(root / "wds_bone", copy / "wds_bone", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "scripts", copy / "scripts")
    with (copy / "wds_bone" / "sharding" / "writer.py").open("a") as module:
        module.write(f"import os, pathlib\npathlib.Path({str(tmp_path)!r}, f'import-{{os.getpid()}}').touch()\n")
    command = [sys.executable, str(copy / "scripts" / "make_shards.py"), "--out", str(tmp_path / "out"), *HANDS]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert subprocess.run(command, cwd=tmp_path, env=environment, timeout=DEADLINE_SECONDS).returncode == 0
    assert len(list(tmp_path.glob("import-*"))) == 2  # in the command and in the fork server


@pytest.mark.slow
def test_one_worker_and_three_workers_write_the_same_bytes(tmp_path: Path, whole_set):
    status, _, err = finish(start(tmp_path / "out", *HANDS[:-1], "3"))
    assert status == 0
    assert "train + val: 24 of 24 samples" in err
    assert digests(tmp_path / "out") == whole_set


@pytest.mark.slow
def test_after_kills_at_several_stages_a_repeated_run_gives_the_same_bytes(tmp_path: Path, whole_set):
    out, num_kills = tmp_path / "out", 0
    for num_staged in (1, 3, 5, 8, 11):
        process = start(out, *HANDS)
        wait_until(lambda process=process, enough=num_staged: staged_files(out) >= enough or process.poll() is not None)
        num_kills += process.poll() is None
        process.kill()
        process.communicate(timeout=DEADLINE_SECONDS)
        assert not (out / MANIFEST_NAME).exists() or verify([str(out)]) == 0
    assert num_kills > 0
    assert finish(start(out, *HANDS))[0] == 0
    assert digests(out) == whole_set


@pytest.mark.slow
@needs_proc
def test_a_killed_worker_is_reported_and_leaves_no_process(tmp_path: Path, whole_set):
    out = tmp_path / "out"
    process = start(out, *HANDS)
    wait_until(lambda: len(writers_of(out)) == 2)
    os.kill(writers_of(out)[0], signal.SIGKILL)
    status, _, err = finish(process)
    assert status == 2
    assert "the writer process ended before the shard was finished" in err
    assert "killed by SIGKILL" in err
    wait_until(lambda: not writers_of(out))
    assert finish(start(out, *HANDS))[0] == 0
    assert digests(out) == whole_set


@pytest.mark.slow
@needs_proc
@pytest.mark.fault("D8", "E3", "E8")
@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_workers_end_with_the_command_whichever_signal_ends_it(tmp_path: Path, sent: signal.Signals, status: int):
    # With a thousand hands per shard, the writers would run for half a minute if nothing ended them.
    hands = ("--synthetic", "2000", "--samples-per-shard", "1000", "--workers", "2")
    process = start(tmp_path / "out", *hands, start_new_session=True)
    wait_until(lambda: len(writers_of(tmp_path / "out")) == 2)
    process.send_signal(sent)
    assert process.wait(DEADLINE_SECONDS) == status
    wait_until(lambda: not writers_of(tmp_path / "out"), seconds=8)
    _, err = process.communicate(timeout=DEADLINE_SECONDS)
    sentence = "" if sent == signal.SIGKILL else f"stopped by {sent.name}; run the same command again to continue\n"
    assert err.endswith(sentence)
    assert "Traceback" not in err


@pytest.mark.slow
@needs_proc
def test_a_second_writer_is_refused_and_the_first_is_not_disturbed(tmp_path: Path, whole_set):
    out = tmp_path / "out"
    first = start(out, *HANDS)
    wait_until(lambda: writers_of(out))
    os.kill(first.pid, signal.SIGSTOP)
    status, _, err = finish(start(out, *HANDS))
    os.kill(first.pid, signal.SIGCONT)
    assert status == 2
    assert "another run of `wds-bone make-shards` holds this lock" in err
    assert f"process {first.pid} on " in err
    assert finish(first)[0] == 0
    assert digests(out) == whole_set


def has_mounts() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    mount = "mount -t tmpfs tmpfs /tmp"
    return subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, timeout=20).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not has_mounts(), reason="needs root and unshare to mount a small disk")
@pytest.mark.parametrize("size", ["20k", "100k"])
@pytest.mark.fault("B2")
def test_a_full_disk_leaves_no_manifest_and_the_run_continues_once_there_is_room(tmp_path: Path, whole_set, size: str):
    out, copy = tmp_path / "out", tmp_path / "copy"
    out.mkdir()
    run = " ".join([sys.executable, str(SCRIPT), "--out", str(out), *HANDS])
    script = f"""mount -t tmpfs -o size={size} tmpfs {out}; {run}; echo status $?; ls -A {out}
        mount -o remount,size=20m {out}; {run}; echo status $?; cp -r {out} {copy}"""
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert "No space left on device" in result.stderr
    assert "bytes free" in result.stderr
    _, _, second = result.stdout.partition("status 2")
    assert MANIFEST_NAME not in second.split("status 0")[0]
    assert "status 0" in second
    assert digests(copy) == whole_set


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to make system calls fail")
@pytest.mark.parametrize(
    "fault", ["write:error=ENOSPC:when=2", "fsync:error=EIO:when=1", "rename:signal=SIGKILL:when=1"]
)
@pytest.mark.fault("B1", "B2", "B3")
def test_a_system_call_that_fails_in_a_worker_stops_the_run_and_a_repeated_run_recovers(
    tmp_path: Path, whole_set, fault: str
):
    out, call = tmp_path / "out", fault.split(":")[0]
    # strace must be given the temporary names, so every process starts with this module, which makes them known.
    (tmp_path / "sitecustomize.py").write_text("import secrets; secrets.token_hex = lambda num_bytes: '00' * num_bytes")
    suffixes = (".00000000.tmp", "")
    names = [out / STAGING_NAME / f"train-{number:06d}.tar{suffix}" for number in range(3) for suffix in suffixes]
    paths = [text for name in names for text in ("-P", str(name))]
    search = f"PYTHONPATH={tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    wrapper = (
        "env",
        search,
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        *paths,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={fault}",
    )
    status, _, err = finish(start(out, *HANDS, wrapper=wrapper))
    assert status == 2, err
    assert "error: " in err
    assert not (out / MANIFEST_NAME).exists()
    assert finish(start(out, *HANDS))[0] == 0
    assert digests(out) == whole_set


@pytest.mark.slow
def test_a_manifest_contains_no_paths_hosts_or_times(tmp_path: Path):
    films = write_films(tmp_path / "films", 8)
    assert finish(start(tmp_path / "out", *films, "--size", "16", "--workers", "1"))[0] == 0
    text = (tmp_path / "out" / MANIFEST_NAME).read_text()
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text
    assert json.loads(text)["splits"].keys() == read_manifest(tmp_path / "out" / MANIFEST_NAME).splits.keys()


def test_a_test_split_of_synthetic_hands_joins_the_training_set_and_has_six_raters(tmp_path: Path):
    assert main(["--out", str(tmp_path), "--synthetic", "6", "--size", "32", "--workers", "1"]) == 0
    second = ["--out", str(tmp_path), "--synthetic", "6", "--size", "32", "--workers", "1", "--seed", "1"]
    assert main([*second, "--split", "test"]) == 0
    ages = select_shards(tmp_path, split="test").table["age_months"]
    assert np.allclose(ages * 6, np.round(ages * 6), atol=1e-3)
    assert (ages % 1 > 0).any()
