import gc
import mmap
import os

import pytest
import torch

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
