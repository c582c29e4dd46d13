"""Turn running out of device memory into an error that the user can fix.

In: an exception from torch.
Out: a `WdsBoneError`.
Invariant: everything that runs on a device runs inside `memory_errors`, starting with building the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wds_bone.errors import WdsBoneError


@contextmanager
def memory_errors(device: str | torch.device, *, got: str, do: str) -> Iterator[None]:
    """Turn running out of device memory inside the block into a `WdsBoneError`.

    Args:
        device: the device that is used inside the block.
        got: the settings that determine how much memory is needed.
        do: which of them to change.

    Raises:
        WdsBoneError: if there was not enough memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        problem = f"the model and its images do not fit into the memory of the {device} device"
        raise WdsBoneError(problem, got=got, do=do) from error
