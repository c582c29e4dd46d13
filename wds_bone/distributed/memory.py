"""A device whose memory is full -> an error that a user can mend.

In comes what torch raises, out goes a `WdsBoneError`. The invariant: all that runs on a device runs inside
`memory_errors`, from building the model on.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wds_bone.errors import WdsBoneError


@contextmanager
def memory_errors(device: str | torch.device, *, got: str, do: str) -> Iterator[None]:
    """Turn a lack of device memory inside the block into an error.

    Args:
        device: whose memory it is.
        got: the settings that decide how much is needed.
        do: which of them to change.

    Raises:
        WdsBoneError: the memory was not enough.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        problem = f"the model and its images do not fit into the memory of the {device} device"
        raise WdsBoneError(problem, got=got, do=do) from error
