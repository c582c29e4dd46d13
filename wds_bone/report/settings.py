"""The settings of evaluate, one field per option.

In: the command line.
Out: an `EvaluateConfig`.
Invariant: the samples are named in exactly one way; options that contradict each other, or that have no effect without
another one, are refused before anything is read or written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wds_bone.config import check_bounds, option, option_of
from wds_bone.distributed.hardware import Device
from wds_bone.errors import ConfigError
from wds_bone.inference.labeled import Batching, GenderInput
from wds_bone.paths import PathText, ShardsText
from wds_bone.remote.settings import RemoteOptions
from wds_bone.report.samples import NamedSamples, check_samples, named_samples, refuse_without_effect
from wds_bone.sharding.settings import MakeShardsConfig


@dataclass(frozen=True)
class EvaluateConfig:
    """The settings of one evaluation."""

    out: Path = option(
        "folder for the results; results of an earlier evaluation are replaced", metavar="DIR", is_output=True
    )
    checkpoint: tuple[Path, ...] = option(
        "best.pt of a training run; several are evaluated as an ensemble, by the mean of their predictions",
        default=(),
        metavar="FILE",
    )
    shards: tuple[ShardsText, ...] = option("labeled shards: a manifest, a folder or tars", default=(), metavar="PATH")
    cache: PathText = option_of(RemoteOptions, "cache")
    allow_host: tuple[str, ...] | None = option_of(RemoteOptions, "allow_host")
    split: str | None = option("split of a folder or manifest (default: the only one)", default=None, metavar="NAME")
    labels: Path | None = option(
        "label table of films, .csv or .xlsx, in place of --shards", default=None, metavar="FILE", may_be_pipe=True
    )
    images: tuple[Path, ...] = option(
        "folders of the films in --labels; their file names are the ids", default=(), metavar="DIR"
    )
    runs: tuple[Path, ...] = option(
        "folders of the runs of a cross-validation, one per fold: pool their predictions for the samples that each was "
        "not trained on, in place of --checkpoint and samples",
        default=(),
        metavar="RUN",
    )
    against: Path | None = option(
        "folder of another evaluation; the errors for samples in both are compared", default=None, metavar="DIR"
    )
    tta: bool = option("average the predictions for more views of each image, which takes longer", default=False)
    local_batch_size: int = option(
        "images per forward pass of each process; affects only the rounding of the predictions", default=64, min=1
    )
    threads: int | None = option(
        "threads that decode images (default: 1 on a CPU; on a GPU one per core)", default=None, min=1
    )
    device: Device = option("device to run the model on", default="auto")
    gender: GenderInput = option(
        "genders given to the model: true, shuffled among the samples, or swapped (F and M exchanged)", default="true"
    )
    id_column: str | None = option_of(MakeShardsConfig, "id_column")
    age_column: str | None = option_of(MakeShardsConfig, "age_column")
    gender_column: str | None = option_of(MakeShardsConfig, "gender_column")
    gender_is: Literal["male", "female"] | None = option_of(MakeShardsConfig, "gender_is")
    age_unit: Literal["months", "years"] | None = option_of(MakeShardsConfig, "age_unit")
    gender_words: tuple[str, ...] = option_of(MakeShardsConfig, "gender_words")
    delimiter: str = option_of(MakeShardsConfig, "delimiter")
    id_width: int | None = option_of(MakeShardsConfig, "id_width")
    safe_keys: bool = option("make keys from ids with other characters, as make-shards --safe-keys does", default=False)

    @property
    def samples(self) -> NamedSamples:
        """The samples to evaluate."""
        return named_samples(self)

    @property
    def batching(self) -> Batching:
        """How to predict."""
        return Batching(self.local_batch_size, self.threads)

    def __post_init__(self) -> None:
        check_bounds(self)
        check_samples(self)
        _check_checkpoint(self)
        if self.runs:
            names = ("checkpoint", "tta", "gender")
            refuse_without_effect(self, names, reason="with --runs, whose samples are already predicted")


def _check_checkpoint(config: EvaluateConfig) -> None:
    if not config.checkpoint and not config.runs:
        do = "add --checkpoint best.pt"
        raise ConfigError("no --checkpoint", expected="at least one file", got="none", do=do)
