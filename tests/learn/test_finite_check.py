"""Test that losses are checked in order, and that errors name the step and its samples."""

from collections import deque
from collections.abc import Sequence

import pytest
import torch

from wds_bone.errors import WdsBoneError
from wds_bone.learn.finite_check import PendingLoss, check_losses, copy_loss_to_host


def pending_loss(step: int, *, shares: Sequence[float] | None = None, skipped: bool = False) -> PendingLoss:
    return copy_loss_to_host(torch.tensor(shares or [step / 2]), torch.tensor(float(skipped)), step=step)


def keys_of_step(step: int) -> list[str]:
    return [f"hand-{step}-{row}" for row in range(4)]


def test_the_last_loss_checked_is_returned_and_the_requested_number_is_left():
    pending = deque([pending_loss(1), pending_loss(2), pending_loss(3)])
    assert check_losses(pending, keys_of_step, leave=1) == 1.0
    assert [waiting.step for waiting in pending] == [3]
    assert check_losses(pending, keys_of_step) == 1.5
    assert not pending


@pytest.mark.fault("E1")
def test_a_skipped_step_is_an_error_that_names_the_step_and_its_samples():
    pending = deque([pending_loss(1), pending_loss(2, skipped=True), pending_loss(3)])
    with pytest.raises(WdsBoneError, match=r"step 2: .* not finite for samples hand-1-0, .*hand-1-3\n") as refused:
        check_losses(pending, keys_of_step)
    assert "--lr" in refused.value.do


def test_the_loss_is_the_sum_of_the_shares_of_all_ranks():
    assert check_losses(deque([pending_loss(1, shares=[0.5, 0.25])]), keys_of_step) == 0.75


@pytest.mark.parametrize(
    ("shares", "keys"),
    [
        ([1.0, float("nan")], "hand-0-2, hand-0-3"),
        ([float("inf"), 1.0], "hand-0-0, hand-0-1"),
        ([1.0, 1.0], "hand-0-0, hand-0-1, hand-0-2, hand-0-3"),
    ],
)
@pytest.mark.fault("E1")
def test_the_error_names_the_samples_of_the_ranks_whose_loss_is_not_finite(shares: list[float], keys: str):
    with pytest.raises(WdsBoneError) as refused:
        check_losses(deque([pending_loss(1, shares=shares, skipped=True)]), keys_of_step)
    assert refused.value.problem.endswith(f"for samples {keys}")
