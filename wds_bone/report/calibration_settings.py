"""The settings of calibrate, one field per option.

In: the command line.
Out: a `CalibrateConfig`.
Invariant: the samples are named in exactly one way, as evaluate names them; options that have no effect are refused
before anything is read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wds_bone.config import check_bounds, option, option_of
from wds_bone.distributed.hardware import Device
from wds_bone.inference.labeled import Batching
from wds_bone.paths import PathText, ShardsText
from wds_bone.report.samples import NamedSamples, check_samples, named_samples
from wds_bone.report.settings import EvaluateConfig


@dataclass(frozen=True)
class CalibrateConfig:
    """The settings of one calibration."""

    checkpoint: Path = option("best.pt of a training run; it is not changed", metavar="FILE")
    out: Path = option("file to write, a calibrated copy of the checkpoint", metavar="FILE", is_output=True)
    level: float = option(
        "probability that an interval contains the true age; 0.9 needs 9 films of each gender, better 200",
        default=0.9,
        min=0.01,
        max=0.999,
    )
    correct: bool = option(
        "also correct the predictions, by a line for each gender that fits the films of your site; use at least 100 "
        "films of each gender",
        default=False,
    )
    shards: tuple[ShardsText, ...] = option_of(EvaluateConfig, "shards")
    cache: PathText = option_of(EvaluateConfig, "cache")
    allow_host: tuple[str, ...] | None = option_of(EvaluateConfig, "allow_host")
    split: str | None = option_of(EvaluateConfig, "split")
    labels: Path | None = option_of(EvaluateConfig, "labels")
    images: tuple[Path, ...] = option_of(EvaluateConfig, "images")
    runs: tuple[Path, ...] = option(
        "folders of the runs of a cross-validation, one per fold, in place of samples; the checkpoint must be the "
        "best.pt of one of them",
        default=(),
        metavar="RUN",
    )
    local_batch_size: int = option_of(EvaluateConfig, "local_batch_size")
    threads: int | None = option_of(EvaluateConfig, "threads")
    device: Device = option_of(EvaluateConfig, "device")
    id_column: str | None = option_of(EvaluateConfig, "id_column")
    age_column: str | None = option_of(EvaluateConfig, "age_column")
    gender_column: str | None = option_of(EvaluateConfig, "gender_column")
    gender_is: Literal["male", "female"] | None = option_of(EvaluateConfig, "gender_is")
    age_unit: Literal["months", "years"] | None = option_of(EvaluateConfig, "age_unit")
    gender_words: tuple[str, ...] = option_of(EvaluateConfig, "gender_words")
    delimiter: str = option_of(EvaluateConfig, "delimiter")
    id_width: int | None = option_of(EvaluateConfig, "id_width")
    safe_keys: bool = option_of(EvaluateConfig, "safe_keys")

    @property
    def samples(self) -> NamedSamples:
        """The samples to predict."""
        return named_samples(self)

    @property
    def batching(self) -> Batching:
        """How to predict."""
        return Batching(self.local_batch_size, self.threads)

    def __post_init__(self) -> None:
        check_bounds(self)
        check_samples(self)
