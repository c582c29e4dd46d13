"""Memory does not depend on the size of the set: shards of many times the bound stream through it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sample_sets import write_set

pytestmark = pytest.mark.slow

# Reports by how many bytes the peak of the process's own memory grew over opening and reading a whole epoch.
# RssAnon, not RSS: pages of the shards are the kernel's to keep or drop.
MEASURE = """
import sys, threading
from wds_bone import BoneAgeStream

def anonymous_bytes():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

with BoneAgeStream(sys.argv[1], split="warm", batch_size=16, threads=2) as stream:
    for batch in stream:
        pass
before, peak = anonymous_bytes(), 0
with BoneAgeStream(sys.argv[1], split="train", batch_size=16, threads=2) as stream:
    for batch in stream:
        peak = max(peak, anonymous_bytes())
print(peak - before)
"""


def growth_bytes(folder: Path) -> int:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, folder], capture_output=True, text=True, check=True, timeout=120
    )
    return int(run.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to read the memory of a process")
def test_shards_of_twenty_times_the_bound_stream_through_it(tmp_path: Path) -> None:
    small = write_set(tmp_path / "small", size=256, encoding="npy", warm=[64], train=[250])
    large = write_set(tmp_path / "large", size=256, encoding="npy", warm=[64], train=[250] * 11)
    bound = 8 * 2**20
    assert sum(path.stat().st_size for path in large.glob("train-*.tar")) > 20 * bound
    growths = growth_bytes(small), growth_bytes(large)
    assert max(growths) < bound
    assert growths[1] - growths[0] < 2**20
