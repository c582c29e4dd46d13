from collections import deque

import pytest
import torch

from wds_bone.errors import WdsBoneError
from wds_bone.learn.verdict import hear, request_verdict


def verdict(step: int, *, refused: bool = False):
    return request_verdict(torch.tensor(step / 2), torch.tensor(float(refused)), step=step, keys=[f"hand-{step}", "b"])


def test_the_last_loss_is_returned_and_as_many_verdicts_left_as_asked():
    pending = deque([verdict(1), verdict(2), verdict(3)])
    assert hear(pending, leave=1) == 1.0
    assert [waiting.step for waiting in pending] == [3]
    assert hear(pending) == 1.5
    assert not pending


def test_a_refused_step_is_an_error_with_its_number_and_its_samples():
    pending = deque([verdict(1), verdict(2, refused=True), verdict(3)])
    with pytest.raises(WdsBoneError, match=r"step 2: .* not finite, with samples hand-2, b") as refused:
        hear(pending)
    assert "--lr" in refused.value.do


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_verdict_from_a_cuda_device_arrives_too():
    flag = torch.ones((), device="cuda")
    with pytest.raises(WdsBoneError, match="step 4"):
        hear(deque([request_verdict(flag * 2, flag, step=4, keys=["a"])]))
