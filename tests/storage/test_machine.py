"""Test how much memory a process may use, and which settings are beyond the machine."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from wds_bone.errors import ConfigError
from wds_bone.storage.machine import available_memory, check_count, check_memory, format_bytes

MEMINFO = "MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable: 7000 kB\nSwapFree: 1000 kB\n"


def write_system(root: Path, **files: str) -> Path:
    """Write the files of a system, with "__" for "/" in their names."""
    known = {"proc__meminfo": MEMINFO, "proc__self__statm": "10 5 1 1 0 4 0", "proc__self__cgroup": "0::/"}
    for name, text in (known | files).items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_limits_the_free_memory_of_the_machine_counts(tmp_path: Path):
    memory = available_memory(write_system(tmp_path))
    assert memory == (8000 * 1024, "the free memory of this machine")
    assert available_memory().num_bytes > 0


@pytest.mark.fault("D9")
def test_the_smallest_limit_of_the_control_groups_counts_without_cached_files(tmp_path: Path):
    group = tmp_path / "sys/fs/cgroup/user/job"
    group.mkdir(parents=True)
    for folder, limit in ((group, "max"), (group.parent, "5000000")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("3000000")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    memory = available_memory(write_system(tmp_path, proc__self__cgroup="0::/user/job\n"))
    assert memory.num_bytes == 2_500_000
    assert "5.0 MB of this container or job (cgroup)" in memory.source


def test_control_groups_of_version_1_and_of_a_container_that_does_not_see_its_path_count_too(tmp_path: Path):
    group = tmp_path / "sys/fs/cgroup/memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("4000000")
    (group / "memory.usage_in_bytes").write_text("1000000")
    (group / "memory.stat").write_text("inactive_file 0\ntotal_inactive_file 250000\n")
    root = write_system(tmp_path, proc__self__cgroup="9:memory:/docker/0123\n0::/\n")
    assert available_memory(root).num_bytes == 3_250_000


@pytest.mark.fault("D9")
@pytest.mark.parametrize("option", ["-v", "-d"])
def test_a_limit_of_the_process_counts(option: str):
    kind = {"-v": resource.RLIMIT_AS, "-d": resource.RLIMIT_DATA}[option]
    code = (
        f"import resource; resource.setrlimit({kind}, (300_000_000,) * 2)\n"
        "from wds_bone.storage.machine import check_memory\n"
        "check_memory(batch_bytes=100_000_000, num_batches=3, buffer_bytes=1_000_000)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "ConfigError: the batches that are loaded at the same time do not fit into memory" in result.stderr
    assert f"what is left of the 300.0 MB of a process (`ulimit {option}`)" in result.stderr
    assert "got:      301.0 MB: 3 batches of 100.0 MB, and 1.0 MB for the threads" in result.stderr


def test_what_fits_is_accepted():
    check_memory(batch_bytes=1000, num_batches=4, buffer_bytes=0)
    check_count("--threads", 128, cores=2)
    check_count("--threads", None, cores=2)


@pytest.mark.fault("D9")
def test_more_threads_than_the_cores_can_serve_are_refused():
    with pytest.raises(ConfigError, match="--threads 100000 is more than this machine can use") as refused:
        check_count("--threads", 100_000, cores=2)
    assert refused.value.expected == "at most 128: 64 for each of 2 cores"


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 bytes"), (999, "999 bytes"), (51_200_000_000, "51.2 GB"), (10**18, "1,000.0 PB")]
)
def test_bytes_are_shown_with_a_unit(num_bytes: int, text: str):
    assert format_bytes(num_bytes) == text
