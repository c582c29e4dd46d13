"""Make one step of a run, and describe what the run would do.

In: a run at its beginning, or where it would resume.
Out: text.
Invariant: nothing is written.
"""

from collections import deque
from collections.abc import Sequence

from torch import Tensor
from torch.nn import Parameter

from wds_bone.distributed.resources import peak_bytes
from wds_bone.learn.loop import train_step
from wds_bone.learn.losses import check_losses
from wds_bone.learn.run import Progress, Run


def dry_run(run: Run, progress: Progress) -> str:
    """Make one step, and return a description of it and of the run, which cannot be used afterwards.

    Raises:
        WdsBoneError: whatever would stop the first step of the run.
    """
    stream, ranks, recipe = run.train_stream, run.ranks, run.recipe
    batch = next(stream.endless())
    pending = train_step(run.learner, batch, step=progress.step, recipe=recipe, ranks=ranks)
    loss = check_losses(deque([pending]), stream.step_keys)
    weights = list(run.learner.model.parameters())
    learned = [weight for weight in weights if weight.requires_grad]
    lines = {
        "batch": ", ".join(f"{name} {_describe(tensor)}" for name, tensor in batch.tensors().items()),
        "model": f"{_count(weights):,} weights, {_count(learned):,} of them trained",
        "first loss": f"{loss:.4f}",
        "memory": f"peak {peak_bytes(ranks.device) / 1e6:,.0f} MB on {ranks.device}",
        "processes": f"{ranks.world_size}, each with {recipe.local_batch_size} of {recipe.global_batch_size} samples "
        f"per step, in {recipe.accumulate} part{'s' if recipe.accumulate > 1 else ''}",
        "training": f"{stream.num_samples:,} samples in {stream.num_shards} shards; each process reads from all",
        "validation": f"{run.val_stream.num_samples:,} samples in {run.val_stream.num_shards} shards, "
        f"{len(run.val_stream)} batches",
        "steps": f"{recipe.num_steps - progress.step:,} of {recipe.num_steps:,} left, "
        f"{run.epochs_shown(recipe.num_steps)} validations",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _count(weights: Sequence[Parameter]) -> int:
    return sum(weight.numel() for weight in weights)
