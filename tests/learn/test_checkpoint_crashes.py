"""Test that a save that is killed or fails at any system call leaves the old checkpoint or the new one, intact."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.checkpoints import complete_contents
from wds_bone.model.checkpoint import load_checkpoint, save_checkpoint
from wds_bone.storage.durable import remove_temporaries

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, to stop a process at a system call"),
]
SAVE = """
import secrets, sys, torch
from pathlib import Path
from tests.checkpoints import complete_contents
from wds_bone.errors import WdsBoneError
from wds_bone.model.checkpoint import save_checkpoint
secrets.token_hex = lambda num_bytes: "00" * num_bytes  # so that strace can be given the temporary name
try:
    save_checkpoint(Path(sys.argv[1]), complete_contents(step=2, weights=torch.full([5000], 2.0)))
except WdsBoneError as error:
    sys.exit(f"error: {error}")
"""
CHANGING = ("openat", "write", "fsync", "rename", "unlink", "close")


def save_traced(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Overwrite the checkpoint at `path` with a second one, while strace traces or disturbs the calls for its files."""
    touched = [path, path.with_name(path.name + ".00000000.tmp"), path.parent]
    filters = [word for name in touched for word in ("-P", str(name))]
    command = ["strace", "-f", "-qq", *filters, *options, sys.executable, "-c", SAVE, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of an old checkpoint, in its own folder."""
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "last.pt", complete_contents(step=1, weights=torch.full([5000], 1.0)))
    return tmp_path / "run" / "last.pt"


def step_in(path: Path) -> int:
    """Return the step of the checkpoint in a file, which must be intact."""
    contents = load_checkpoint(path)
    assert torch.equal(contents["weights"], torch.full([5000], float(contents["step"])))
    return int(contents["step"])


def count_calls(path: Path, log: Path) -> Counter[str]:
    """Return how often an undisturbed save makes each system call that changes files."""
    assert save_traced(path, "-o", str(log), "-e", f"trace={','.join(CHANGING)}").returncode == 0
    return Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


@pytest.mark.fault("F1")
def test_a_save_killed_at_any_system_call_leaves_the_old_checkpoint_or_the_new_one(path: Path, tmp_path: Path):
    old = path.read_bytes()
    calls = count_calls(path, tmp_path / "log")
    assert {"openat", "write", "fsync", "rename"} <= calls.keys()
    found = set()
    for call, number in calls.items():
        for when in range(1, number + 1):
            path.write_bytes(old)
            remove_temporaries(path.parent, [path.name])
            kill = f"inject={call}:signal=SIGKILL:when={when}"
            result = save_traced(path, "-o", "/dev/null", "-e", f"trace={call}", "-e", kill)
            assert result.returncode != 0, (call, when)
            found.add(step_in(path))
    assert found == {1, 2}
    remove_temporaries(path.parent, [path.name])
    assert sorted(file.name for file in path.parent.iterdir()) == ["last.pt"]


@pytest.mark.fault("F2")
@pytest.mark.parametrize(
    ("call", "error"), [("write", "ENOSPC"), ("write", "EIO"), ("fsync", "EIO"), ("rename", "EIO")]
)
def test_a_save_that_fails_is_reported_and_keeps_the_old_checkpoint(call: str, error: str, path: Path, tmp_path: Path):
    old = path.read_bytes()
    for when in range(1, count_calls(path, tmp_path / "log")[call] + 1):
        path.write_bytes(old)
        result = save_traced(
            path, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"
        )
        assert result.returncode == 1, (call, when)
        assert f"{path}: cannot be written" in result.stderr
        # The last fsync is that of the folder: the new file is complete by then, but its name may not be on the disk.
        assert step_in(path) == (2 if (call, when) == ("fsync", 2) else 1)
        assert [file.name for file in path.parent.iterdir()] == ["last.pt"]
