"""After Ctrl-C in make-shards, every command says that the set is not finished, and how to finish it."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sharding.film_sets import start
from wds_bone.errors import ShardError
from wds_bone.index import main as index
from wds_bone.shards.manifest import LOCK_NAME, MANIFEST_NAME, STAGING_NAME
from wds_bone.storage.lock import lock_name
from wds_bone.stream.locate import find_splits
from wds_bone.stream.selection import select_shards
from wds_bone.verify import main as verify

COMMANDS: list[Callable[[list[str]], int]] = [verify, index]


def interrupt(out: Path, until: Callable[[], object]) -> None:
    """Start make-shards, and send Ctrl-C once `until` is true."""
    process = start(out, "--synthetic", "600", "--samples-per-shard", "4", "--workers", "1", "--size", "32")
    deadline = time.monotonic() + 100
    while not until() and process.poll() is None:
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == 130


@pytest.mark.slow
@pytest.mark.fault("B1")
@pytest.mark.parametrize("name", ["", MANIFEST_NAME, "train-*.tar", "train-{000000..000001}.tar", STAGING_NAME])
def test_every_name_of_an_interrupted_set_is_refused_with_the_remedy(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], interrupted: Path
):
    for command in COMMANDS:
        assert command([f"{interrupted}/{name}".rstrip("/")]) in (1, 2)
        output = capsys.readouterr()
        assert "not finished" in output.out + output.err
        assert "run the same `wds-bone make-shards` command again" in output.out + output.err
    with pytest.raises(ShardError, match=r"not finished(?s:.*)run the same"):
        select_shards(f"{interrupted}/{name}".rstrip("/"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("interrupted") / "out"
    interrupt(out, lambda: (out / STAGING_NAME / "train-000001.idx").exists())
    return out


@pytest.mark.slow
def test_training_on_an_interrupted_set_says_that_it_is_not_finished(interrupted: Path, tmp_path: Path, capsys):
    from wds_bone.train import main as train

    assert train(["--train", str(interrupted), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert "not finished" in capsys.readouterr().err


def test_a_set_of_which_nothing_is_written_yet_is_not_finished_either(tmp_path: Path):
    (tmp_path / LOCK_NAME).touch()
    for find in (select_shards, find_splits):
        with pytest.raises(ShardError, match="not finished"):
            find(tmp_path)


def test_the_lock_of_an_interrupted_run_is_recognized_by_its_name() -> None:
    assert lock_name("make-shards") == LOCK_NAME
