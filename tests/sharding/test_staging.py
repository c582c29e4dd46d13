import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sharding.fault_injection import failing_call
from tests.sharding.film_sets import digests, make, names_in, write_films
from wds_bone.errors import ShardError
from wds_bone.sharding.staging import adopt_shard
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME


def interrupt(out: Path, films: list[str], monkeypatch: pytest.MonkeyPatch, name: str, *more: str) -> None:
    """Run the command and press Ctrl-C when the file `name` is about to get its final name."""
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if Path(target).name == name:
            signal.raise_signal(signal.SIGINT)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        assert make(out, *films, *more) == 130


@pytest.mark.fault("B4")
def test_shards_that_are_not_in_a_manifest_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, films = tmp_path / "out", write_films(tmp_path / "films", 20)
    out.mkdir()
    (out / "train-000000.tar").write_bytes(b"somebody's")
    assert make(out, *films) == 2
    assert "contains shards that are not listed in a manifest" in capsys.readouterr().err
    assert (out / "train-000000.tar").read_bytes() == b"somebody's"
    assert make(out, *films, "--replace") == 0


@pytest.mark.fault("B1")
def test_an_interrupted_run_keeps_its_shards_and_continues_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    interrupt(out, films, monkeypatch, "train-000002.tar")
    assert names_in(out) == [STAGING_NAME]
    first = (out / STAGING_NAME / "train-000000.tar").stat()
    assert make(out, *films) == 0
    assert (out / "train-000000.tar").stat().st_mtime_ns == first.st_mtime_ns
    assert "12 of 20" not in capsys.readouterr().out
    make(tmp_path / "fresh", *films)
    assert digests(out) == digests(tmp_path / "fresh")


@pytest.mark.fault("B4")
def test_an_unfinished_run_of_another_plan_is_refused_and_discarded_with_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    interrupt(out, films, monkeypatch, "train-000002.tar")
    assert make(out, *films, "--size", "24") == 2
    message = capsys.readouterr().err
    assert "unfinished run" in message
    assert "expected: height 16, width 16" in message
    assert make(out, *films, "--size", "24", "--replace") == 0
    make(tmp_path / "fresh", *films, "--size", "24")
    assert digests(out) == digests(tmp_path / "fresh")


@pytest.mark.parametrize("name", ["train-000000.tar", "train-000000.index.npy"])
def test_a_shard_of_an_attempt_that_lacks_a_file_is_not_adopted(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    films, out, attempt = write_films(tmp_path / "films", 20), tmp_path / "out", tmp_path / "attempt"
    interrupt(out, films, monkeypatch, "train-000002.tar")
    attempt.mkdir()
    for path in (out / STAGING_NAME).glob("train-000000.*"):
        path.rename(attempt / path.name)
    (attempt / name).unlink()
    before = names_in(out / STAGING_NAME), names_in(attempt)
    with pytest.raises(ShardError, match="does not contain the shard that was written there"):
        adopt_shard(out / STAGING_NAME, attempt, "train-000000.tar")
    assert (names_in(out / STAGING_NAME), names_in(attempt)) == before


@pytest.mark.fault("B1")
def test_the_old_set_stays_intact_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    make(out, *films)
    before = digests(out)
    interrupt(out, films, monkeypatch, "val-000000.tar", "--size", "24", "--replace")
    assert {name: sha for name, sha in digests(out).items() if not name.startswith(STAGING_NAME)} == before
    assert make(out, *films) == 0  # the old set is complete although another run was started
    assert make(out, *films, "--size", "24", "--replace") == 0
    make(tmp_path / "fresh", *films, "--size", "24")
    assert digests(out) == digests(tmp_path / "fresh")


def test_a_staging_folder_left_after_the_manifest_was_written_does_not_block_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", lambda path: failing_call(errno.EIO)())
        assert make(out, *write_films(tmp_path / "a", 10), "--split", "train") == 2
    assert (out / STAGING_NAME).exists()
    assert make(out, *write_films(tmp_path / "b", 6, first=10), "--split", "test") == 0
    assert not (out / STAGING_NAME).exists()


@pytest.mark.fault("B1")
def test_a_shard_of_the_set_does_not_count_as_a_lost_one_of_an_unfinished_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    films, out, more = write_films(tmp_path / "films", 20), tmp_path / "out", ("--size", "24", "--replace")
    make(out, *films)
    interrupt(out, films, monkeypatch, "train-000002.tar", *more)
    lost = out / STAGING_NAME / "train-000000.tar"
    (out / lost.name).write_bytes(b"?" * lost.stat().st_size)
    lost.unlink()
    assert make(out, *films, *more) == 0
    make(tmp_path / "fresh", *films, "--size", "24")
    assert digests(out) == digests(tmp_path / "fresh")


@pytest.mark.fault("B1")
def test_when_an_unfinished_run_is_discarded_no_record_outlives_its_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    interrupt(out, films, monkeypatch, "train-000002.tar")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink_except("train-000001.index.npy"))
        assert make(out, *films, "--size", "24", "--replace") == 2
    left = names_in(out / STAGING_NAME)
    assert [name for name in left if name.endswith(".json")] == ["plan.json"]
    assert "train-000001.tar" in left


def unlink_except(name: str) -> Callable[..., None]:
    """Return `os.unlink`, except that it fails for this name."""
    real = os.unlink

    def unlink(path: Path, **options: int) -> None:
        if Path(path).name == name:
            failing_call(errno.EIO)()
        real(path, **options)

    return unlink


@pytest.mark.fault("B1")
def test_a_kept_split_survives_an_interrupted_and_discarded_replacement_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out, train = tmp_path / "out", write_films(tmp_path / "a", 10)
    make(out, *train, "--split", "train")
    make(out, *write_films(tmp_path / "b", 6, first=10), "--split", "test")
    before = digests(out)
    interrupt(out, write_films(tmp_path / "c", 7, first=10), monkeypatch, MANIFEST_NAME, "--split", "test", "--replace")
    assert not (out / MANIFEST_NAME).exists()
    capsys.readouterr()
    assert make(out, *train, "--split", "train") == 2
    assert "unfinished run" in capsys.readouterr().err
    assert make(out, *write_films(tmp_path / "d", 6, first=10), "--split", "test", "--replace") == 0
    assert digests(out) == before


@pytest.mark.fault("I3")
def test_a_symbolic_link_instead_of_the_staging_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / STAGING_NAME).symlink_to(tmp_path / "elsewhere")
    assert make(out, *films) == 2
    assert ".building: is a symbolic link" in capsys.readouterr().err
    assert names_in(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("name", ["plan.json", "train-000000.json"])
@pytest.mark.parametrize("contents", ["", "[]", '{"splits": {"train": {}}}', "\xff"])
def test_a_damaged_file_of_an_unfinished_run_is_reported_with_a_remedy_that_works(
    tmp_path: Path, name: str, contents: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    interrupt(out, films, monkeypatch, "train-000002.tar")
    (out / STAGING_NAME / name).write_text(contents, "latin-1")
    assert make(out, *films) == 2
    message = capsys.readouterr().err
    assert f"{name}: is damaged" in message
    assert "delete this file" in message
    (out / STAGING_NAME / name).unlink()
    assert make(out, *films) == 0
    make(tmp_path / "fresh", *films)
    assert digests(out) == digests(tmp_path / "fresh")
