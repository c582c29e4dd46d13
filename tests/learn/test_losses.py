from collections import deque
from collections.abc import Sequence

import pytest
import torch
from wds_bone.learn.verdict import Verdict, hear, request_verdict

from wds_bone.errors import WdsBoneError


def verdict(step: int, *, shares: Sequence[float] | None = None, refused: bool = False) -> Verdict:
    return request_verdict(torch.tensor(shares or [step / 2]), torch.tensor(float(refused)), step=step)


def keys_of_step(step: int) -> list[str]:
    return [f"hand-{step}-{row}" for row in range(4)]


def test_the_last_loss_is_returned_and_as_many_verdicts_left_as_asked():
    pending = deque([verdict(1), verdict(2), verdict(3)])
    assert hear(pending, keys_of_step, leave=1) == 1.0
    assert [waiting.step for waiting in pending] == [3]
    assert hear(pending, keys_of_step) == 1.5
    assert not pending


def test_a_refused_step_is_an_error_with_its_number_and_its_samples():
    pending = deque([verdict(1), verdict(2, refused=True), verdict(3)])
    with pytest.raises(WdsBoneError, match=r"step 2: .* not finite, with samples hand-1-0, .*hand-1-3\n") as refused:
        hear(pending, keys_of_step)
    assert "--lr" in refused.value.do


def test_the_loss_is_the_sum_of_the_shares_of_all_ranks():
    assert hear(deque([verdict(1, shares=[0.5, 0.25])]), keys_of_step) == 0.75


@pytest.mark.parametrize(
    ("shares", "keys"),
    [
        ([1.0, float("nan")], "hand-0-2, hand-0-3"),
        ([float("inf"), 1.0], "hand-0-0, hand-0-1"),
        ([1.0, 1.0], "hand-0-0, hand-0-1, hand-0-2, hand-0-3"),
    ],
)
def test_the_samples_named_are_those_of_the_ranks_whose_share_is_not_finite(shares: list[float], keys: str):
    with pytest.raises(WdsBoneError) as refused:
        hear(deque([verdict(1, shares=shares, refused=True)]), keys_of_step)
    assert refused.value.problem.endswith(f"with samples {keys}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_verdict_from_a_cuda_device_arrives_too():
    flag = torch.ones((), device="cuda")
    with pytest.raises(WdsBoneError, match="step 4"):
        hear(deque([request_verdict(flag[None] * 2, flag, step=4)]), keys_of_step)
