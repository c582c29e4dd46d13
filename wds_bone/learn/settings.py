"""The settings of a training run.

In comes a command line, out goes a checked value, then one without "auto". The invariant: what a resolved config says
is what a run does, on any machine; what depends on the number of samples is settled when they are known.
"""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

from wds_bone.config import knob, option
from wds_bone.distributed.hardware import (
    Device,
    Precision,
    default_threads,
    pick_device,
    pick_model,
    pick_precision,
    pick_rate,
)
from wds_bone.errors import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run."""

    train: tuple[str, ...] = option("training shards: a manifest, a folder or tars", default=("shards/manifest.json",))
    val: tuple[str, ...] | None = option("validation shards (default: the split val beside --train)", default=None)
    out: Path = option("folder of the run", default=Path("runs/bone-age"))
    model: str = option("torchvision classifier; auto takes resnet18, on a GPU convnext_tiny", default="auto")
    init_weights: str = option("none, imagenet (fetched if need be), or a file of weights", default="none")
    image_size: int | None = option("longer side of the model's input in pixels (default: as stored)", default=None)
    epochs: int = option("how often every sample is shown", default=14)
    max_steps: int | None = option("stop after this step; the schedule still spans --epochs", default=None)
    batch_size: int = option("samples per step, over all processes", default=32)
    lr: float | None = option("highest learning rate (default: by the model, 2e-3 for resnet18)", default=None)
    dropout: float | None = option("of the model's dropout layers, 0 for none (default: the model's own)", default=None)
    drop_path: float | None = option(
        "of the model's last stochastic depth layer, rising to it from 0 (default: the model's own)", default=None
    )
    folds: int | None = option("cross-validation: in how many folds the training split is cut", default=None)
    fold: int | None = option("cross-validation: which fold validates, from 0; the others train", default=None)
    seed: int = option("of initial weights, order and augmentation", default=0)
    threads: int | None = option("that decode images (default: 1 on a CPU, else one per core)", default=None)
    device: Device = option("where the model is trained", default="auto")
    precision: Precision = option("of the forward pass; auto takes bf16 where hardware has it", default="auto")
    compile: bool = option("compile the model with torch.compile", default=False)
    resume: str = option("auto (go on with the run in --out), none, or a checkpoint", default="auto")
    log_every: int = option("steps between two lines of metrics", default=20)
    dry_run: bool = option("make one step, say what the run would be, and leave nothing behind", default=False)
    weight_decay: float = knob("of AdamW", default=0.05)
    ema: float | None = knob("decay of the average of the weights, 0 for no average; none: by the steps", default=None)
    patience: int | None = knob("epochs without a better validation after which to stop; none: go on", default=None)
    accumulate: int = knob("parts in which each process computes its batch, to save memory", default=1)
    freeze_backbone: bool = knob("learn the last layers only; for pretrained weights", default=False)
    sync_batch_norm: bool = knob("batch norms over the batch of all processes; on CUDA", default=False)
    shuffle_buffer: int | None = knob("places that a sample may move; none: the whole epoch", default=None)
    timeout_seconds: float = knob("after which a process gives another one up", default=300.0)
    augment_flip: bool = knob("mirror half of the images", default=True)
    augment_turn_degrees: float = knob("turn by up to this, either way", default=8.0)
    augment_scale: float = knob("scale by up to this part, either way", default=0.06)
    augment_shift: float = knob("shift by up to this part of the image, either way", default=0.04)
    augment_contrast: float = knob("change the contrast by up to this part, either way", default=0.1)
    augment_brightness: float = knob("change the brightness by up to this part, either way", default=0.05)
    augment_gamma: float = knob("change gamma by up to this part, either way", default=0.05)

    def __post_init__(self) -> None:
        _refuse_below(1, self, *_COUNTS)
        _refuse_below(0, self, "seed", "fold", *_FRACTIONS, *_REALS)
        for name in _REALS:
            if not math.isfinite(getattr(self, name) or 0.0):
                raise _range_error(name, "a finite number", getattr(self, name))
        for name, limit in (("seed", 1 << 31), *((name, 1) for name in _FRACTIONS)):
            if (getattr(self, name) or 0) >= limit:
                raise _range_error(name, f"less than {limit}", getattr(self, name))
        _check_folds(self)
        if self.freeze_backbone and (self.dropout or self.drop_path):
            raise ConfigError(
                "--dropout or --drop-path with freeze_backbone, which turns the random layers off",
                expected="one of them",
                got=f"--dropout {self.dropout}, --drop-path {self.drop_path}",
                do="leave one out",
            )


_COUNTS = (
    "image_size",
    "epochs",
    "max_steps",
    "batch_size",
    "threads",
    "shuffle_buffer",
    "log_every",
    "accumulate",
    "patience",
    "timeout_seconds",
)
_FRACTIONS = ("ema", "dropout", "drop_path", "augment_scale", "augment_shift", "augment_contrast", "augment_gamma")
_REALS = ("lr", "weight_decay", "augment_turn_degrees", "augment_brightness", "timeout_seconds")


def resolve_config(config: TrainConfig) -> TrainConfig:
    """Replace "auto" and what is not set by what suits the machine.

    Raises:
        ConfigError: a CUDA device is asked for and there is none.
    """
    device = pick_device(config.device)
    model = pick_model(config.model, device)
    return replace(
        config,
        device="cuda" if device.type == "cuda" else "cpu",
        precision=pick_precision(config.precision, device),
        model=model,
        lr=pick_rate(model) if config.lr is None else config.lr,
        threads=config.threads or default_threads(device),
    )


def _check_folds(config: TrainConfig) -> None:
    if (config.folds is None) != (config.fold is None):
        raise ConfigError(
            "--folds without --fold, or the other way round",
            expected="both or none",
            got=f"--folds {config.folds}, --fold {config.fold}",
            do="say --folds 5 --fold 0, then --fold 1 and so on",
        )
    if config.folds is None or config.fold is None:
        return
    if not config.folds >= 2 or config.fold >= config.folds:
        raise _range_error("fold", f"at least 2 folds, and a fold from 0 to {config.folds - 1}", config.fold)
    if config.val is not None:
        raise ConfigError(
            "--folds beside --val", expected="one of them", got="both", do="leave --val out: the fold validates"
        )


def _refuse_below(least: int, config: TrainConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise _range_error(name, f"{least} or more", value)


def _range_error(name: str, expected: str, got: object) -> ConfigError:
    flag = setting_name(name)
    return ConfigError(f"{flag} {got} makes no sense", expected=expected, got=got, do=f"give another {flag}")


def setting_name(name: str) -> str:
    """Return how a setting is given: `--batch-size`, or `--set accumulate` where it has no flag."""
    (metadata,) = (field.metadata for field in fields(TrainConfig) if field.name == name)
    return f"--set {name}" if metadata.get("is_knob") else f"--{name.replace('_', '-')}"
