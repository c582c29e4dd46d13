"""Kill `wds-bone make-shards` at every step, or let the disk fail at every step, and check what remains."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.sharding.fault_injection import Countdown, failing_call, make_until_killed
from tests.sharding.film_sets import digests, make, write_films
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME
from wds_bone.verify import find_problems

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # takes several minutes on a busy machine
]


def is_complete_set(out: Path) -> bool:
    """Return whether `out` is a complete set; if not, check that it is marked as incomplete."""
    if (out / MANIFEST_NAME).exists():
        assert list(find_problems([str(out)])) == []
        return True
    assert (out / STAGING_NAME).exists() or not list(out.glob("*.tar"))
    return False


@pytest.mark.fault("B1")
def test_after_a_kill_before_any_name_change_a_repeated_run_gives_the_same_set(tmp_path: Path):
    films = write_films(tmp_path / "films", 6)
    make(tmp_path / "whole", *films, "--val-fraction", "0.3")
    expected, number, completed = digests(tmp_path / "whole"), 1, []
    while make_until_killed(number, tmp_path / f"out{number}", *films, "--val-fraction", "0.3"):
        out = tmp_path / f"out{number}"
        completed.append(is_complete_set(out))
        assert make(out, *films, "--val-fraction", "0.3") == 0
        assert digests(out) == expected, f"killed before change {number}"
        number += 1
    assert number > 20
    assert completed == sorted(completed)  # once the set is complete, it stays complete


@pytest.mark.fault("B1")
def test_a_kill_during_replacement_leaves_the_old_set_or_the_new_set_or_one_marked_as_incomplete(tmp_path: Path):
    old, new = write_films(tmp_path / "old", 20), write_films(tmp_path / "new", 6)
    make(tmp_path / "whole", *new, "--val-fraction", "0.3")
    expected, number = digests(tmp_path / "whole"), 1
    make(tmp_path / "first", *old)
    before = digests(tmp_path / "first")
    while True:
        out = Path(shutil.copytree(tmp_path / "first", tmp_path / f"out{number}"))
        if not make_until_killed(number, out, *new, "--val-fraction", "0.3", "--replace"):
            break
        kept = {name: sha for name, sha in digests(out).items() if not name.startswith(STAGING_NAME)}
        assert kept == before or not (out / MANIFEST_NAME).exists() or digests(out).items() >= expected.items()
        is_complete_set(out)
        retired = not (out / MANIFEST_NAME).exists()
        assert make(out, *new, "--val-fraction", "0.3", *([] if retired else ["--replace"])) == 0
        assert digests(out) == expected, f"killed before change {number}"
        number += 1
    assert number > 25


@pytest.mark.parametrize(("call", "code"), [("fsync", errno.EIO), ("rename", errno.ENOSPC)])
@pytest.mark.fault("B2", "B3")
def test_a_failing_disk_stops_the_run_and_a_repeated_run_gives_the_same_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: str, code: int
):
    films = write_films(tmp_path / "films", 3)
    make(tmp_path / "whole", *films, "--split", "train")
    expected, number = digests(tmp_path / "whole"), 1
    while True:
        out, count = tmp_path / f"out{number}", Countdown(number, failing_call(code))
        with monkeypatch.context() as patch:
            patch.setattr(os, call, count.wrap(getattr(os, call)))
            status = make(out, *films, "--split", "train")
        if count.left > 0:
            break
        assert status == 2
        message = capsys.readouterr().err
        assert "cannot be written" in message
        assert ("bytes free" if code == errno.ENOSPC else "EIO") in message
        assert not list(out.rglob("*.tmp"))
        is_complete_set(out)
        assert make(out, *films, "--split", "train") == 0
        assert digests(out) == expected, f"{call} {number} failed"
        number += 1
    assert number > 10
