"""Settings -> everything a training run needs, opened and built.

In come resolved settings, out go streams and a `Run` at its very beginning. The invariant: the same settings and shards
give the same run, weights included.
"""

from dataclasses import replace
from typing import Any, Literal

import torch

from wds_bone.config import config_as_json
from wds_bone.errors import ConfigError
from wds_bone.learn.augment import Ranges
from wds_bone.learn.hardware import dtype_of, installed_versions
from wds_bone.learn.learner import assemble_learner, target_of
from wds_bone.learn.metrics import median_ages
from wds_bone.learn.model import build_model, refuse_unfit_images
from wds_bone.learn.preprocess import plan_preprocessing
from wds_bone.learn.run import Recipe, Run
from wds_bone.learn.schedule import count_steps, default_ema
from wds_bone.learn.settings import TrainConfig
from wds_bone.learn.weights import load_initial_weights
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest
from wds_bone.stream.locate import local_path
from wds_bone.stream.stream import BoneAgeStream


def open_stream(config: TrainConfig, split: Literal["train", "val"]) -> BoneAgeStream:
    """Open the training or the validation samples.

    Tars are taken as they are, a folder or manifest by its split. What --val names need not have a split "val", if it
    has only one.

    Raises:
        WdsBoneError: shards that are missing or damaged, or no validation shards.
    """
    shards = config.train if split == "train" else config.val or config.train
    named = any(name.endswith(".tar") for name in shards)
    if named and split == "val" and config.val is None:
        raise ConfigError("no validation shards", expected="--val beside tars in --train", do="give --val")
    only_split = split == "val" and config.val is not None and not all(_has_split(name, split) for name in shards)
    return BoneAgeStream(
        shards,
        batch_size=config.batch_size,
        seed=config.seed,
        split=None if named or only_split else split,
        shuffle=split == "train",
        shuffle_buffer=config.shuffle_buffer if split == "train" else None,
        threads=config.threads,
        device=config.device,
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
    fresh: bool,
) -> Run:
    """Build the model and all that training needs, from settled settings.

    Args:
        config: settled.
        train_stream: opened.
        val_stream: opened.
        description: what `run.json` says, which goes into every checkpoint.
        fresh: the run begins; if it goes on, the weights come from its checkpoint afterwards.

    Raises:
        ConfigError: a model, an image size or initial weights that cannot be had.
    """
    assert config.lr is not None, "resolve_config sets it"
    assert config.ema is not None, "settle_config sets it"
    num_steps = count_steps(train_stream.num_samples, epochs=config.epochs, batch_size=config.batch_size)
    preprocessing = plan_preprocessing(train_stream.image_format, config.image_size)
    preprocessing.refuse_other_format(val_stream.image_format, place="validation shards")
    torch.manual_seed(config.seed)
    model = build_model(config.model)
    size = {"height": preprocessing.height, "width": preprocessing.width}
    refuse_unfit_images(model, name=config.model, batch_size=config.batch_size, **size)
    if fresh and config.init_weights != "none":
        load_initial_weights(model, config.init_weights, name=config.model)
    learner = assemble_learner(
        model,
        device=torch.device(config.device),
        preprocessing=preprocessing,
        target=target_of(train_stream.ages_months),
        precision=dtype_of(config.precision),
        weight_decay=config.weight_decay,
        compiled=config.compile,
    )
    return Run(
        folder=config.out,
        learner=learner,
        recipe=Recipe(num_steps=num_steps, peak_rate=config.lr, ema=config.ema, seed=config.seed, ranges=Ranges()),
        train_stream=train_stream,
        val_stream=val_stream,
        batch_size=config.batch_size,
        last_step=min(num_steps, config.max_steps or num_steps),
        log_every=config.log_every,
        origin=description,
    )
