"""Settings -> everything a training run needs, opened and built.

In come resolved settings, out go streams and a `Run` at its very beginning. The invariant: the same settings and shards
give the same run, weights included.
"""

from dataclasses import fields, replace
from typing import Any, Literal

import torch

from wds_bone.config import config_as_json
from wds_bone.distributed.hardware import code_digest, dtype_of, installed_versions
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import ConfigError
from wds_bone.learn.folder import OF_A_PROCESS
from wds_bone.learn.learner import assemble_learner, target_of
from wds_bone.learn.metrics import median_ages
from wds_bone.learn.run import Recipe, Run
from wds_bone.learn.schedule import count_steps, default_ema
from wds_bone.learn.settings import TrainConfig
from wds_bone.model.augment import Ranges
from wds_bone.model.layers import freeze_backbone, set_drop_path, set_dropout
from wds_bone.model.model import BoneAgeModel, build_model, refuse_unfit_images
from wds_bone.model.preprocess import Preprocessing, plan_preprocessing
from wds_bone.model.weights import load_initial_weights
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest
from wds_bone.stream.folds import keep_fold
from wds_bone.stream.locate import local_path
from wds_bone.stream.stream import BoneAgeStream

VALIDATION_ROWS = 64
"""At most so many images at a time, and as many on each rank as a single process would take: batches of another shape
round otherwise, and the error of a model shall not depend on how many ranks measure it."""


def open_stream(config: TrainConfig, split: Literal["train", "val"], ranks: Ranks) -> BoneAgeStream:
    """Open this rank's rows of the training or the validation samples.

    Tars are taken as they are, a folder or manifest by its split. What --val names need not have a split "val", if it
    has only one.

    Raises:
        WdsBoneError: shards that are missing or damaged, no validation shards, or a batch that the ranks cannot share.
    """
    if config.folds is not None:
        return _open_fold(config, split, ranks)
    shards = config.train if split == "train" else config.val or config.train
    named = any(name.endswith(".tar") for name in shards)
    if named and split == "val" and config.val is None:
        raise ConfigError("no validation shards", expected="--val beside tars in --train", do="give --val")
    only_split = split == "val" and config.val is not None and not all(_has_split(name, split) for name in shards)
    return BoneAgeStream(shards, split=None if named or only_split else split, **_stream_settings(config, split, ranks))


def _open_fold(config: TrainConfig, split: Literal["train", "val"], ranks: Ranks) -> BoneAgeStream:
    """Open what a fold leaves to train with, or the fold itself: both come from the training split."""
    assert config.folds is not None
    assert config.fold is not None
    named = any(name.endswith(".tar") for name in config.train)
    return BoneAgeStream(
        config.train,
        split=None if named else "train",
        keep=keep_fold(split, fold=config.fold, num_folds=config.folds, seed=config.seed),
        **_stream_settings(config, split, ranks),
    )


def _stream_settings(config: TrainConfig, split: Literal["train", "val"], ranks: Ranks) -> dict[str, Any]:
    settings = {
        "rank": ranks.rank,
        "world_size": ranks.world_size,
        "threads": config.threads,
        "device": ranks.device,
    }
    if split == "val":
        return settings | {"shuffle": False, "batch_size": min(VALIDATION_ROWS, config.batch_size) * ranks.world_size}
    refuse_indivisible(config.batch_size, ranks=ranks.world_size, parts=config.accumulate)
    return settings | {
        "seed": config.seed,
        "shuffle_buffer": config.shuffle_buffer,
        "batch_size": config.batch_size,
    }


def refuse_indivisible(batch_size: int, *, ranks: int, parts: int) -> None:
    """Raise unless every rank gets equally many samples in each of its parts.

    Raises:
        ConfigError: with the nearest batch sizes that fit.
    """
    unit = ranks * parts
    below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
    if below != above:
        over = f"{ranks} processes" + (f" in {parts} parts each (accumulate)" if parts > 1 else "")
        raise ConfigError(
            f"--batch-size {batch_size} cannot be shared out equally over {over}",
            expected=f"a multiple of {unit}",
            got=batch_size,
            do=f"give --batch-size {f'{below} or {above}' if below else above}",
        )


def _has_split(name: str, split: str) -> bool:
    """Return whether a folder or manifest has that split."""
    path = local_path(name)
    folder = path.parent if path.name == MANIFEST_NAME else path
    if (folder / MANIFEST_NAME).exists():
        return split in read_manifest(folder / MANIFEST_NAME).splits
    return any(folder.glob(f"{split}-*.tar"))


def settle_config(config: TrainConfig, train_stream: BoneAgeStream) -> TrainConfig:
    """Replace what depends on the number of samples and is not set."""
    num_steps = count_steps(train_stream.num_samples, epochs=config.epochs, batch_size=config.batch_size)
    return replace(config, ema=default_ema(num_steps) if config.ema is None else config.ema)


def describe_lockstep(description: dict[str, Any]) -> dict[str, Any]:
    """Return what all ranks must agree in before they begin, in plain JSON types."""
    config = description["config"]
    num_steps = count_steps(description["samples"]["train"], epochs=config["epochs"], batch_size=config["batch_size"])
    shared = {name: value for name, value in config.items() if name not in OF_A_PROCESS}
    return {**description, "config": shared, "code": code_digest(), "num_steps": num_steps}


def describe_run(config: TrainConfig, train_stream: BoneAgeStream, val_stream: BoneAgeStream) -> dict[str, Any]:
    """Return what `run.json` and every checkpoint say about a run, in plain JSON types."""
    return {
        "config": config_as_json(config),
        "versions": installed_versions(),
        "samples": {"train": train_stream.num_samples, "val": val_stream.num_samples},
        "order_digests": {"train": train_stream.order_digest, "val": val_stream.order_digest},
        "train_median_months": median_ages(train_stream.ages_months, train_stream.genders),
    }


def assemble_run(
    config: TrainConfig,
    train_stream: BoneAgeStream,
    val_stream: BoneAgeStream,
    description: dict[str, Any],
    *,
    ranks: Ranks,
    fresh: bool,
) -> Run:
    """Build the model and all that training needs, from settled settings.

    Args:
        config: settled.
        train_stream: opened.
        val_stream: opened.
        description: what `run.json` says, which goes into every checkpoint.
        ranks: that share the work.
        fresh: the run begins; if it goes on, the weights come from its checkpoint afterwards.

    Raises:
        ConfigError: a model, an image size or initial weights that cannot be had.
    """
    assert config.lr is not None, "resolve_config sets it"
    assert config.ema is not None, "settle_config sets it"
    num_steps = count_steps(train_stream.num_samples, epochs=config.epochs, batch_size=config.batch_size)
    preprocessing = plan_preprocessing(train_stream.image_format, config.image_size)
    preprocessing.refuse_other_format(val_stream.image_format, where="validation shards")
    torch.manual_seed(config.seed)
    model = _build_model(config, preprocessing, rows=config.batch_size // ranks.world_size // config.accumulate)
    if fresh and config.init_weights != "none":
        with ranks.first_on_host():  # what has to be fetched is fetched once
            load_initial_weights(model, config.init_weights, name=config.model)
    learner = assemble_learner(
        model,
        ranks=ranks,
        preprocessing=preprocessing,
        target=target_of(train_stream.ages_months),
        precision=dtype_of(config.precision),
        weight_decay=config.weight_decay,
        compiled=config.compile,
        shared_norms=config.sync_batch_norm,
    )
    recipe = Recipe(
        num_steps=num_steps,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        peak_rate=config.lr,
        ema=config.ema,
        seed=config.seed,
        ranges=_augmentation(config),
    )
    return Run(
        folder=config.out,
        ranks=ranks,
        learner=learner,
        recipe=recipe,
        train_stream=train_stream,
        val_stream=val_stream,
        patience=config.patience,
        last_step=min(num_steps, config.max_steps or num_steps),
        log_every=config.log_every,
        origin=description,
    )


def _build_model(config: TrainConfig, preprocessing: Preprocessing, *, rows: int) -> BoneAgeModel:
    """Build the model with random weights, refuse images that it cannot take, and set its layers."""
    model = build_model(config.model)
    refuse_unfit_images(
        model, name=config.model, num_images=rows, height=preprocessing.height, width=preprocessing.width
    )
    if config.dropout is not None:
        set_dropout(model, config.dropout, name=config.model)
    if config.drop_path is not None:
        set_drop_path(model, config.drop_path, name=config.model)
    if config.freeze_backbone:
        freeze_backbone(model)
    return model


def _augmentation(config: TrainConfig) -> Ranges:
    return Ranges(**{field.name: getattr(config, f"augment_{field.name}") for field in fields(Ranges)})
