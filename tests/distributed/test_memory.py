import pytest
import torch

from wds_bone.distributed.memory import memory_errors
from wds_bone.errors import WdsBoneError


def test_too_little_memory_is_an_error_that_names_the_device_and_the_remedy():
    with (
        pytest.raises(WdsBoneError, match="memory of the cuda device") as refused,
        memory_errors("cuda", got="--batch-size 64", do="give a smaller --batch-size"),
    ):
        raise torch.OutOfMemoryError
    assert refused.value.do == "give a smaller --batch-size"


def test_any_other_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="a bug"), memory_errors("cuda", got="", do=""):
        raise RuntimeError("a bug")
