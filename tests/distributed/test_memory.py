"""Test the error for running out of device memory."""

import pytest
import torch

from wds_bone.distributed.memory import memory_errors
from wds_bone.errors import WdsBoneError


def test_running_out_of_memory_is_reported_with_the_device_and_a_remedy():
    with (
        pytest.raises(WdsBoneError, match="memory of the cuda device") as refused,
        memory_errors("cuda", got="--batch-size 64", do="give a smaller --batch-size"),
    ):
        raise torch.OutOfMemoryError
    assert refused.value.do == "give a smaller --batch-size"


def test_any_other_error_is_raised_unchanged():
    with pytest.raises(RuntimeError, match="a bug"), memory_errors("cuda", got="", do=""):
        raise RuntimeError("a bug")
