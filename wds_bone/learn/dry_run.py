"""Take one step of a run, and describe what the run would do.

In: a run that is about to start or resume.
Out: text.
Invariant: nothing is written.
"""

from collections import deque
from collections.abc import Sequence

from torch import Tensor
from torch.nn import Parameter

from wds_bone.distributed.resources import peak_bytes
from wds_bone.learn.finite_check import check_losses
from wds_bone.learn.loop import train_step
from wds_bone.learn.run import Progress, Run


def dry_run(run: Run, progress: Progress) -> str:
    """Take one step, and return a description of it and of the run; the run cannot be used afterwards.

    Raises:
        WdsBoneError: if the first step of the run would fail.
    """
    stream, ranks, recipe = run.train_stream, run.ranks, run.recipe
    batch = next(stream.endless())
    pending = train_step(run.learner, batch, step=progress.step, recipe=recipe, ranks=ranks)
    loss = check_losses(deque([pending]), stream.step_keys)
    weights = list(run.learner.model.parameters())
    learned = [weight for weight in weights if weight.requires_grad]
    lines = {
        "batch": ", ".join(f"{name} {_describe(tensor)}" for name, tensor in batch.tensors().items()),
        "model": f"{_num_values(weights):,} weights, {_num_values(learned):,} of them trained",
        "first loss": f"{loss:.4f}",
        "memory": f"peak {peak_bytes(ranks.device) / 1e6:,.0f} MB on {ranks.device}",
        "processes": f"{ranks.world_size}, each with {recipe.local_batch_size} of {recipe.global_batch_size} samples "
        f"per step, in {_count(recipe.config.accumulate, 'part')}",
        "training": f"{stream.num_samples:,} samples in {_count(stream.num_shards, 'shard')}; every process reads all",
        "validation": f"{run.val_stream.num_samples:,} samples in {_count(run.val_stream.num_shards, 'shard')}, "
        f"{_count(len(run.val_stream), 'batch', 'batches')}",
        "steps": f"{recipe.num_steps - progress.step:,} of {recipe.num_steps:,} left, "
        f"{_count(run.epochs_shown(recipe.num_steps), 'validation')}",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _num_values(weights: Sequence[Parameter]) -> int:
    return sum(weight.numel() for weight in weights)


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
