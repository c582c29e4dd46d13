import gc
import mmap

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
