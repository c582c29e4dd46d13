"""A save that dies or fails at any of its system calls leaves the old checkpoint or the new one, whole."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from wds_bone.model.checkpoint import load_checkpoint, save_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, to stop a process at a system call"),
]
SAVE = """
import sys, torch
from pathlib import Path
from wds_bone.errors import WdsBoneError
from wds_bone.model.checkpoint import save_checkpoint
try:
    save_checkpoint(Path(sys.argv[1]), {"step": 2, "weights": torch.full([5000], 2.0)})
except WdsBoneError as error:
    sys.exit(f"error: {error}")
"""
CHANGING = ("openat", "write", "fsync", "rename", "unlink", "close")


def save_traced(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Save a second checkpoint over the one at `path`, watched or disturbed by strace where it touches its files."""
    touched = [path, path.with_name(path.name + ".tmp"), path.parent]
    filters = [word for name in touched for word in ("-P", str(name))]
    command = ["strace", "-f", "-qq", *filters, *options, sys.executable, "-c", SAVE, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of an old checkpoint in a folder of its own."""
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "last.pt", {"step": 1, "weights": torch.full([5000], 1.0)})
    return tmp_path / "run" / "last.pt"


def step_in(path: Path) -> int:
    """Return which of the two checkpoints a file holds; it must be one of them, whole."""
    contents = load_checkpoint(path)
    assert torch.equal(contents["weights"], torch.full([5000], float(contents["step"])))
    return int(contents["step"])


def count_calls(path: Path, log: Path) -> Counter[str]:
    """Return how often an undisturbed save makes each system call that changes something."""
    assert save_traced(path, "-o", str(log), "-e", f"trace={','.join(CHANGING)}").returncode == 0
    return Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


def test_a_save_killed_at_any_system_call_leaves_the_old_checkpoint_or_the_new_one(path: Path, tmp_path: Path):
    old = path.read_bytes()
    calls = count_calls(path, tmp_path / "log")
    assert {"openat", "write", "fsync", "rename", "unlink"} <= calls.keys()
    found = set()
    for call, number in calls.items():
        for when in range(1, number + 1):
            path.write_bytes(old)
            kill = f"inject={call}:signal=SIGKILL:when={when}"
            ended = save_traced(path, "-o", "/dev/null", "-e", f"trace={call}", "-e", kill)
            assert ended.returncode != 0, (call, when)
            found.add(step_in(path))
    assert found == {1, 2}
    assert save_traced(path, "-o", "/dev/null", "-e", "trace=none").returncode == 0  # what was left is no obstacle
    assert sorted(file.name for file in path.parent.iterdir()) == ["last.pt"]


@pytest.mark.parametrize(
    ("call", "error"), [("write", "ENOSPC"), ("write", "EIO"), ("fsync", "EIO"), ("rename", "EIO")]
)
def test_a_save_that_the_disk_refuses_says_so_and_keeps_the_old_checkpoint(
    call: str, error: str, path: Path, tmp_path: Path
):
    old = path.read_bytes()
    for when in range(1, count_calls(path, tmp_path / "log")[call] + 1):
        path.write_bytes(old)
        ended = save_traced(
            path, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"
        )
        assert ended.returncode == 1, (call, when)
        assert f"{path}: cannot be written" in ended.stderr
        # The last fsync is of the folder: the new file is whole then, but the disk may forget its name.
        assert step_in(path) == (2 if (call, when) == ("fsync", 2) else 1)
        assert [file.name for file in path.parent.iterdir()] == ["last.pt"]
