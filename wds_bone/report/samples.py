"""Predict the samples that a command names, from shards or straight from films.

In: the options that name them, and the models.
Out: `Labeled`: predictions next to labels.
Invariant: the samples are named in exactly one way; every sample is predicted once, or counted as failed; all
predictions are finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wds_bone.config import setting_name
from wds_bone.distributed.memory import memory_errors
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import ConfigError
from wds_bone.inference.ensemble import Ensemble
from wds_bone.inference.from_films import predict_labeled_films
from wds_bone.inference.from_shards import predict_shards
from wds_bone.inference.labeled import Batching, GenderInput, Labeled, check_sources
from wds_bone.inference.predictions import refuse_not_finite
from wds_bone.interrupt import Interruption
from wds_bone.labels.columns import LabelColumns
from wds_bone.remote.settings import cache_folder, check_hosts

_COLUMN_OPTIONS = (
    *("id_column", "age_column", "gender_column", "gender_is", "age_unit", "gender_words", "delimiter", "id_width"),
    "safe_keys",
)


@dataclass(frozen=True)
class NamedSamples:
    """The samples that a command names: either shards, or films.

    Attributes:
        shards: a manifest, folders or tars.
        split: the split of a folder or manifest.
        cache: where shards in object storage are kept, as a stream takes it.
        labels: the label table of the films; None for shards.
        images: the folders of the films.
        columns: what the columns of the label table mean, if their names do not say so.
    """

    shards: Sequence[str]
    split: str | None
    cache: str | None
    labels: Path | None
    images: Sequence[Path]
    columns: LabelColumns


def named_samples(config: Any) -> NamedSamples:
    """Return the samples that the settings of a command name.

    Args:
        config: has the options `shards`, `split`, `cache`, `labels` and `images`, and those for the columns of a label
            table.

    Raises:
        ConfigError: if an option for the columns is not valid.
    """
    columns = LabelColumns(**{name: getattr(config, name) for name in _COLUMN_OPTIONS})
    cache = cache_folder(config.cache)
    return NamedSamples(config.shards, config.split, cache, config.labels, config.images, columns)


def check_samples(config: Any) -> None:
    """Check that the settings of a command name samples in one way, and that none of these options is without effect.

    Args:
        config: like that of `named_samples`, and has the options `allow_host` and `runs`.

    Raises:
        ConfigError: if they do not.
    """
    check_sources(
        shards=config.shards, split=config.split, labels=config.labels, images=config.images, runs=config.runs
    )
    if config.labels is None:
        refuse_without_effect(config, _COLUMN_OPTIONS, reason="without --labels")
    if not config.shards:
        refuse_without_effect(config, ("cache", "allow_host"), reason="without --shards")
    check_hosts(config.allow_host)
    named_samples(config)  # its creation checks the options


def refuse_without_effect(config: Any, names: Sequence[str], *, reason: str) -> None:
    """Refuse settings other than their defaults.

    Raises:
        ConfigError: if there are such settings; the error names the first one.
    """
    fields = type(config).__dataclass_fields__
    if given := [name for name in names if getattr(config, name) != fields[name].default]:
        option = setting_name(type(config), given[0])
        raise ConfigError(f"{option} has no effect {reason}", do=f"leave {option} out")


def predict_samples(
    ensemble: Ensemble,
    samples: NamedSamples,
    *,
    batching: Batching,
    ranks: Ranks,
    interruption: Interruption,
    gender_input: GenderInput = "true",
) -> Labeled | None:
    """Predict every sample once; every rank gets all predictions, or None after a signal.

    Args:
        ensemble: the models, on the device of the ranks.
        samples: the samples.
        batching: how to predict.
        ranks: the ranks that share the work; one for films.
        interruption: answers signals.
        gender_input: the genders to give to the models.

    Raises:
        WdsBoneError: if the samples cannot be read, do not match the models or need too much memory, or if a prediction
            is not finite.
    """
    with memory_errors(ranks.device, **batching.memory_setting(ranks.device)):
        labeled = _predict(ensemble, samples, batching, ranks, interruption, gender_input)
    if labeled is not None:
        refuse_not_finite(labeled.predictions.predicted_months, labeled.predictions.key, where=ensemble.paths)
    return labeled


def _predict(
    ensemble: Ensemble,
    samples: NamedSamples,
    batching: Batching,
    ranks: Ranks,
    interruption: Interruption,
    gender_input: GenderInput,
) -> Labeled | None:
    if samples.labels is None:
        return predict_shards(
            ensemble,
            samples.shards,
            split=samples.split,
            cache=samples.cache,
            batching=batching,
            ranks=ranks,
            interruption=interruption,
            gender_input=gender_input,
        )
    if ranks.world_size > 1:
        do = "start without torchrun, or make shards of the films"
        got = f"{ranks.world_size} processes"
        raise ConfigError("--labels: films are evaluated by one process", expected="1 process", got=got, do=do)
    return predict_labeled_films(
        ensemble,
        samples.labels,
        samples.images,
        columns=samples.columns,
        batching=batching,
        device=ranks.device,
        gender_input=gender_input,
    )
