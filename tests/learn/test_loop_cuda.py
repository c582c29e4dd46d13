"""Test the steps of training on a CUDA device: they do not wait for it, and change nothing that is not finite."""

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cuda import DEVICE, ON_CUDA
from tests.learn.runs import open_run, train_argv
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import WdsBoneError
from wds_bone.learn.finite_check import PendingLoss, check_losses, copy_loss_to_host
from wds_bone.learn.learner import learner_state
from wds_bone.learn.loop import train_step
from wds_bone.learn.run import Run
from wds_bone.stream.batch import Batch

pytestmark = ON_CUDA
RANKS = Ranks(device=DEVICE)


def argv_of(shards: Path, out: Path, *more: str) -> list[str]:
    return train_argv(shards, out, "--device", DEVICE.type, "--precision", "bf16", *more)


def take_step(run: Run, batch: Batch, *, step: int) -> PendingLoss:
    return train_step(run.learner, batch, step=step, recipe=run.recipe, ranks=run.ranks)


def copied_state(run: Run) -> dict[str, Any]:
    state = learner_state(run.learner)
    tensors = {name: {key: value.clone() for key, value in state[name].items()} for name in ("model", "ema")}
    moments = state["optimizer"]["state"]
    return tensors | {
        str(number): {key: value.clone() for key, value in moment.items()} for number, moment in moments.items()
    }


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("model", ["shufflenet_v2_x0_5", "convnext_tiny"])
def test_a_step_never_makes_the_host_wait_for_the_device(model: str, shards: Path, tmp_path: Path) -> None:
    with open_run(argv_of(shards, tmp_path / "run", "--model", model), ranks=RANKS) as run:
        batches = run.train_stream.endless()
        losses = deque([take_step(run, next(batches), step=0)])
        batch = next(batches)
        torch.cuda.set_sync_debug_mode("error")
        try:
            losses.append(take_step(run, batch, step=1))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert check_losses(losses, run.train_stream.step_keys) > 0


@pytest.mark.fault("E1")
def test_a_step_whose_loss_is_not_finite_changes_neither_weights_nor_moments(shards: Path, tmp_path: Path) -> None:
    with open_run(argv_of(shards, tmp_path / "run", "--set", "ema=0"), ranks=RANKS) as run:
        batches = run.train_stream.endless()
        take_step(run, next(batches), step=0)
        before, batch = copied_state(run), next(batches)
        bad = replace(batch, age_months=batch.age_months.index_fill(0, torch.tensor([1], device=DEVICE), float("nan")))
        pending = take_step(run, bad, step=1)
        with pytest.raises(WdsBoneError, match="step 2: the loss or a gradient is not finite"):
            check_losses(deque([pending]), run.train_stream.step_keys)
        after = copied_state(run)
        changed = [
            f"{group} {name}"
            for group, tensors in before.items()
            for name, tensor in tensors.items()
            if not torch.equal(tensor, after[group][name])
        ]
        assert [name for name in changed if "running_" not in name and "num_batches" not in name] == []


@pytest.mark.fault("E1")
def test_a_loss_from_a_cuda_device_is_checked_too() -> None:
    flag = torch.ones((), device=DEVICE)
    with pytest.raises(WdsBoneError, match="step 4"):
        check_losses(deque([copy_loss_to_host(flag[None] * 2, flag, step=4)]), lambda _: ["hand-1"])
