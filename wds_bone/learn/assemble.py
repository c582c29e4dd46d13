"""Open and build everything that a training run needs.

In: resolved settings.
Out: streams, and a `Run` before its first step.
Invariant: the same settings and shards give the same run, including its initial weights.
"""

from contextlib import ExitStack
from typing import Any, Literal

import torch

from wds_bone.config import config_as_json, options_of
from wds_bone.distributed.hardware import code_digest, installed_versions
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import ConfigError
from wds_bone.inference.trained_on import list_training_sets
from wds_bone.learn.budget import refuse_large_steps
from wds_bone.learn.learner import build_learner
from wds_bone.learn.metrics import median_ages
from wds_bone.learn.run import Run
from wds_bone.learn.settings import Recipe, TrainConfig, refuse_indivisible
from wds_bone.model.layers import freeze_backbone, set_drop_path, set_dropout
from wds_bone.model.model import BoneAgeModel, HeadShape, build_model
from wds_bone.model.preprocess import Preprocessing, plan_preprocessing
from wds_bone.model.weights import load_initial_weights
from wds_bone.remote.settings import cache_folder
from wds_bone.storage.machine import check_count
from wds_bone.stream.folds import keep_fold
from wds_bone.stream.locate import find_splits
from wds_bone.stream.settings import available_cores
from wds_bone.stream.stream import BoneAgeStream

Part = Literal["train", "val"]
VALIDATION_ROWS = 64
"""Maximum number of images per forward pass of a validation. Each rank takes as many as a single process would, because
batches of a different shape round differently, and the error of a model must not depend on the number of ranks."""


def open_streams(config: TrainConfig, ranks: Ranks) -> tuple[BoneAgeStream, BoneAgeStream]:
    """Open the training and validation streams of this rank.

    Raises:
        WdsBoneError: if shards are missing or damaged, there are none for validation, or the ranks cannot share a batch
            equally.
    """
    refuse_indivisible(config.batch_size, num_ranks=ranks.world_size, num_parts=config.accumulate)
    check_count("--threads", config.threads, cores=available_cores())
    with ExitStack() as opened:  # closes the first stream if the second cannot be opened
        train_stream = opened.enter_context(
            BoneAgeStream(
                **_samples_of(config, "train"),
                batch_size=config.batch_size,
                seed=config.seed,
                shuffle_buffer=config.shuffle_buffer,
                shuffle_windows=config.shuffle_windows,
                **_reading(config, ranks),
            )
        )
        val_stream = BoneAgeStream(
            **_samples_of(config, "val"),
            batch_size=min(VALIDATION_ROWS, config.batch_size) * ranks.world_size,
            shuffle=False,
            **_reading(config, ranks),
        )
        opened.pop_all()
    return train_stream, val_stream


def _reading(config: TrainConfig, ranks: Ranks) -> dict[str, Any]:
    """Return the arguments of a stream that say who reads, and how."""
    return {
        "rank": ranks.rank,
        "world_size": ranks.world_size,
        "threads": config.threads,
        "device": ranks.device,
        "cache": cache_folder(config.cache),
        "cache_bytes": config.cache_bytes,
    }


def _samples_of(config: TrainConfig, part: Part) -> dict[str, Any]:
    """Return the arguments that select the samples of a stream: shards, a split, and the part of it to keep.

    Tars are used whole; of folders and manifests, one split is used. The shards of `--val` may have a single split of
    any name. With folds, the training and the validation samples are both parts of the training split.
    """
    if config.folds is not None and config.fold is not None:
        keep = keep_fold(part, fold=config.fold, num_folds=config.folds, seed=config.seed)
        return {"shards": config.train, "split": _split_in(config.train, "train"), "keep": keep}
    if part == "train":
        return {"shards": config.train, "split": _split_in(config.train, "train")}
    if config.val is not None:
        return {"shards": config.val, "split": _split_in(config.val, "val", is_optional=True)}
    split = _split_in(config.train, "val", is_optional=True)
    if split is None:
        raise _no_validation_error(config)
    return {"shards": config.train, "split": split}


def _no_validation_error(config: TrainConfig) -> ConfigError:
    found = {split for name in config.train for split in find_splits(name) or ()}
    splits = f"the splits {', '.join(sorted(found))}" if len(found) > 1 else f"the split {''.join(found)}"
    folds = ", or --folds 5 --fold 0 to hold out a fold of the training samples" if "train" in found else ""
    return ConfigError(
        f"{', '.join(config.train)}: no validation samples",
        expected=f"a split val, --val{folds and ' or --folds'}",
        got=splits if found else "tars, which are used whole",
        do=f"add --val and the path of validation shards{folds}",
    )


def _split_in(names: tuple[str, ...], split: str, *, is_optional: bool = False) -> str | None:
    """Return `split` for folders and manifests, None for tars; if `is_optional`, also None if one of them lacks it."""
    splits = [found for name in names if (found := find_splits(name)) is not None]
    if len(splits) < len(names) or (is_optional and not all(split in found for found in splits)):
        return None
    return split


def provenance_of(config: TrainConfig, train_stream: BoneAgeStream, val_stream: BoneAgeStream) -> dict[str, Any]:
    """Return what `run.json` and every checkpoint record about a run, in plain JSON types."""
    return {
        "config": config_as_json(config),
        "versions": installed_versions(config.model),
        "code": code_digest(),
        "samples": {"train": train_stream.num_samples, "val": val_stream.num_samples},
        "order_digests": {"train": train_stream.order_digest, "val": val_stream.order_digest},
        "train_median_months": median_ages(train_stream.ages_months, train_stream.genders),
    }


def shared_provenance(provenance: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return what all ranks must agree on before they begin, in plain JSON types."""
    known = options_of(TrainConfig)
    shared = {name: value for name, value in provenance["config"].items() if not known[name].may_differ}
    return {**provenance, "config": shared, "num_steps": recipe.num_steps}


def assemble_run(
    recipe: Recipe,
    streams: tuple[BoneAgeStream, BoneAgeStream],
    provenance: dict[str, Any],
    *,
    ranks: Ranks,
    is_new: bool,
) -> Run:
    """Build the model and everything else that training needs.

    Args:
        recipe: the recipe of these settings.
        streams: the training and the validation stream.
        provenance: what every checkpoint records.
        ranks: the ranks that share the work.
        is_new: whether the run starts now; the weights of a resumed run are loaded from its checkpoint later.

    Raises:
        ConfigError: if the model, the image size or the initial weights are not available.
    """
    config, (train_stream, val_stream) = recipe.config, streams
    preprocessing = plan_preprocessing(train_stream.image_format, config.image_size)
    preprocessing.refuse_other_format(val_stream.image_format, where="validation shards")
    torch.manual_seed(config.seed)
    model = _build_model(recipe, preprocessing, device=ranks.device)
    inherited = _load_initial_weights(model, config, ranks) if is_new and config.init_weights != "none" else []
    ages_months = train_stream.ages_months
    learner = build_learner(model, config, ranks, preprocessing=preprocessing, ages_months=ages_months)
    return Run(recipe, ranks, learner, train_stream, val_stream, provenance, inherited)


def _load_initial_weights(model: BoneAgeModel, config: TrainConfig, ranks: Ranks) -> list[dict[str, Any]]:
    """Load the weights that training starts from, and return the training sets that their checkpoint records."""
    with ranks.first_on_host():  # download once per machine
        contents = load_initial_weights(model, config.init_weights, name=config.model)
    return [] if contents is None else list_training_sets(contents["trained_on"])


def _build_model(recipe: Recipe, preprocessing: Preprocessing, *, device: torch.device) -> BoneAgeModel:
    """Build the model with random weights, configure its layers, and refuse images that it cannot be trained on."""
    config = recipe.config
    model = build_model(config.model, HeadShape(config.gender_fusion, config.age_bins))
    if config.dropout is not None:
        set_dropout(model, config.dropout, name=config.model)
    if config.drop_path is not None:
        set_drop_path(model, config.drop_path, name=config.model)
    if config.freeze_backbone:
        freeze_backbone(model)
    refuse_large_steps(model, recipe, preprocessing, device=device)
    return model
