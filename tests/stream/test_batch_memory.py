import gc
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wds_bone import BoneAgeStream
from wds_bone.errors import ConfigError
from wds_bone.stream.memory import PixelMemory


def test_live_tensors_never_share_memory_and_that_of_dropped_ones_is_reused() -> None:
    memory = PixelMemory(64)
    first, second = memory.take((4, 4, 4)), memory.take((4, 4, 4))
    first.fill_(1)
    second.fill_(2)
    assert first.unique().tolist() == [1]
    address = first.data_ptr()
    del first
    assert memory.take((2, 4)).data_ptr() == address
    assert second.unique().tolist() == [2]


def test_a_view_keeps_the_memory_of_its_tensor_in_use() -> None:
    memory = PixelMemory(16)
    view = memory.take((4, 4))[1:2]
    array = view.numpy()
    address = view.data_ptr()
    del view
    other = memory.take((4, 4))
    assert not other.data_ptr() <= address < other.data_ptr() + 16
    assert array.shape == (1, 4)


def test_no_more_memory_is_held_than_was_in_use_at_once() -> None:
    memory = PixelMemory(mmap.PAGESIZE)
    addresses = set()
    for _ in range(100):
        pair = [memory.take((8, 8)) for _ in range(2)]
        addresses |= {tensor.data_ptr() for tensor in pair}
        del pair
    gc.collect()
    assert len(addresses) == 2
    assert torch.is_tensor(memory.take((1,)))


def test_more_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit into a block of 16 bytes"):
        PixelMemory(16).take((4, 5))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_cannot_change_the_batches_of_its_parent() -> None:
    memory = PixelMemory(2 * mmap.PAGESIZE)
    pixels = memory.take((2, mmap.PAGESIZE))
    pixels.fill_(1)
    child = os.fork()
    if child == 0:
        pixels.fill_(9)
        os._exit(0 if pixels.unique().tolist() == [9] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pixels.unique().tolist() == [1]
    pixels.fill_(2)
    assert pixels.unique().tolist() == [2]


@pytest.mark.fault("D9")
@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"batch_size": 10**13}, r"2.6 PB: 1 batch of 2.6 PB"),
        ({"batch_size": 10**11}, r"1 batch of 25.6 TB, and [\d.]+ (bytes|kB) for the threads"),
    ],
)
def test_batches_that_do_not_fit_into_memory_are_refused_with_both_numbers(
    tiny_shards: Path, settings: dict[str, int], found: str
) -> None:
    with pytest.raises(
        ConfigError, match=rf"(?s)do not fit into memory.*at most [\d.,]+ .B, .*{found}.*do: .*batch size"
    ):
        BoneAgeStream(tiny_shards, split="train", **settings)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.fault("D9")
def test_a_limit_on_the_data_of_the_process_counts(tiny_shards: Path) -> None:
    program = (
        "import resource, sys, torch; from wds_bone import BoneAgeStream\n"
        "used = 1024 * int(next(l for l in open('/proc/self/status') if l.startswith('VmData')).split()[1])\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (used + 10**7, -1))\n"
        "try: BoneAgeStream(sys.argv[1], split='train', batch_size=64 * 10**3)\n"
        "except ValueError as error: print(error)"
    )
    command = [sys.executable, "-c", program, str(tiny_shards)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert re.search(r"(?s)at most [\d.]+ MB, .*`ulimit -d`.*16.4 MB: 1 batch of 16.4 MB", run.stdout)
