"""Memory does not depend on the size of the set, even if its shards are many times larger than the bound."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sample_sets import write_set

pytestmark = pytest.mark.slow

# Prints by how many bytes the process's own memory grew at its peak while a whole epoch was opened and read.
# RssAnon rather than RSS, because the kernel decides how long it caches the pages of the shards.
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
def test_memory_stays_below_the_bound_for_shards_of_twenty_times_its_size(tmp_path: Path) -> None:
    small = write_set(tmp_path / "small", size=256, encoding="npy", warm=[64], train=[250])
    large = write_set(tmp_path / "large", size=256, encoding="npy", warm=[64], train=[250] * 11)
    bound = 8 * 2**20
    assert sum(path.stat().st_size for path in large.glob("train-*.tar")) > 20 * bound
    growths = growth_bytes(small), growth_bytes(large)
    assert max(growths) < bound
    assert growths[1] - growths[0] < 2**20
