"""A run -> what it would be, from one step that nothing is kept of.

In comes a run at its beginning, or where it goes on, out goes text. The invariant: nothing is written.
"""

from collections import deque
from collections.abc import Sequence

from torch import Tensor
from torch.nn import Parameter

from wds_bone.distributed.resources import peak_bytes
from wds_bone.learn.loop import train_step
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.verdict import hear


def rehearse(run: Run, progress: Progress) -> str:
    """Make one step, and say what it took and what the run would be; the run is of no use afterwards.

    Raises:
        WdsBoneError: what would stop the first step of the run.
    """
    stream, ranks, recipe = run.train_stream, run.ranks, run.recipe
    batch = next(stream.endless())
    verdict = train_step(run.learner, batch, step=progress.step, recipe=recipe, ranks=ranks)
    loss = hear(deque([verdict]), stream.step_keys)
    weights = list(run.learner.model.parameters())
    learned = [weight for weight in weights if weight.requires_grad]
    lines = {
        "batch": ", ".join(f"{name} {_shown(tensor)}" for name, tensor in batch.tensors().items()),
        "model": f"{_total(weights):,} weights, of which {_total(learned):,} learn",
        "first loss": f"{loss:.4f}",
        "memory": f"{peak_bytes(ranks.device) / 1e6:,.0f} MB at its highest, on {ranks.device}",
        "processes": f"{ranks.world_size}, each with {len(batch.key)} of the {recipe.batch_size} samples of a step, "
        f"in {recipe.accumulate} part{'s' if recipe.accumulate > 1 else ''}",
        "training": f"{stream.num_samples:,} samples in {stream.num_shards} shards, each process reads from all",
        "validation": f"{run.val_stream.num_samples:,} samples in {run.val_stream.num_shards} shards, "
        f"{len(run.val_stream)} batches",
        "steps": f"{recipe.num_steps - progress.step:,} to go of {recipe.num_steps:,}; "
        f"validated {run.shown_epochs(recipe.num_steps)} times",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _total(weights: Sequence[Parameter]) -> int:
    return sum(weight.numel() for weight in weights)
