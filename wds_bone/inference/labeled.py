"""Define what is common to predicting labeled samples from shards and from films.

In: the options of a command that name the samples, and how to predict them.
Out: `Labeled`: predictions next to labels, and where the samples are from.
Invariant: every sample that was named is in the predictions, or counted as failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from wds_bone.distributed.hardware import default_threads
from wds_bone.distributed.memory import refuse_beyond_memory
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.inference.ensemble import Ensemble
from wds_bone.inference.predictions import Predictions
from wds_bone.model.footprint import measure_forward_bytes
from wds_bone.stream.order import Order

GenderInput = Literal["true", "shuffled", "swapped"]
_SHUFFLE_SEED = 0


@dataclass(frozen=True)
class Batching:
    """How samples are predicted; this affects the time, the memory and the rounding.

    Attributes:
        batch_size: number of images per forward pass of each process, from `--local-batch-size`.
        threads: number of threads that decode images; None for the default of the device.
    """

    batch_size: int
    threads: int | None = None

    def num_threads(self, device: torch.device) -> int | None:
        """Return the number of threads on a device; None for one per core."""
        return default_threads(device) if self.threads is None else self.threads

    def memory_setting(self, device: torch.device) -> dict[str, str]:
        """Return which setting determines how much memory is needed, and what to do if that is too much."""
        do = "use a smaller --local-batch-size" + ("" if device.type == "cpu" else ", or --device cpu")
        return {"got": f"--local-batch-size {self.batch_size}", "do": do}


@dataclass(frozen=True)
class Labeled:
    """The predictions for labeled samples.

    Attributes:
        predictions: a row for each sample that was predicted.
        origin: a description of the samples in plain JSON types, as "shards" or "films".
        failed: the errors of the samples that could not be predicted.
    """

    predictions: Predictions
    origin: dict[str, Any]
    failed: Sequence[WdsBoneError] = ()


def check_sources(
    *, shards: Sequence[str], split: str | None, labels: Path | None, images: Sequence[Path], runs: Sequence[Path]
) -> None:
    """Check that the options of a command name samples in exactly one way.

    Raises:
        ConfigError: if they do not.
    """
    given = {"--shards": bool(shards), "--labels": labels is not None, "--runs": bool(runs)}
    names = [name for name, is_given in given.items() if is_given]
    ways = "--shards, --labels with --images, or --runs"
    if labels is None and images:
        raise ConfigError("--images without --labels", expected="both", got="no table", do="add --labels TABLE")
    if labels is not None and not images:
        raise ConfigError("--labels without --images", expected="both", got="no folder", do="add --images DIR")
    if not names:
        raise ConfigError("no samples are named", expected=ways, got="none of them", do="add one of them")
    if len(names) > 1:
        problem = f"{' and '.join(names)} contradict each other"
        raise ConfigError(problem, expected=ways, got=f"{len(names)} of them", do="leave all but one of them out")
    if split is not None and not shards:
        raise ConfigError(f"--split has no effect with {names[0]}", do="leave --split out")


def override_genders(genders: NDArray[np.float32], gender_input: GenderInput, *, digest: str) -> NDArray[np.float32]:
    """Return the gender that the model receives for each sample, float32 (n,), 1 male.

    Shuffling does not change the numbers of girls and boys, and is a function of the samples.

    Args:
        genders: float32 (n,), the true genders, 1 male.
        gender_input: which genders to give to the model.
        digest: a digest of the samples.
    """
    if gender_input == "swapped":
        return 1 - genders
    if gender_input == "shuffled":
        order = Order(digest, np.array([0, len(genders)]), _SHUFFLE_SEED)
        return genders[order.sample_at(np.arange(len(genders)))]
    return genders


def refuse_large_batches(ensemble: Ensemble, batching: Batching, device: torch.device) -> None:
    """Refuse batches that do not fit into the memory of the device; every image is predicted with its mirror image.

    Raises:
        ConfigError: if they do not.
    """
    for member in ensemble.members:  # they predict one after the other
        height, width = member.predictor.preprocessing.height, member.predictor.preprocessing.width
        model, num_images = member.predictor.model, batching.batch_size
        needed = {
            "the input of the model": 3 * num_images * height * width * torch.float32.itemsize,
            "its largest layer": measure_forward_bytes(model, num_images=2 * num_images, height=height, width=width),
        }
        refuse_beyond_memory(needed, device, **batching.memory_setting(device))
