"""The settings of a training run.

In comes a command line, out goes a checked value, then one without "auto". The invariant: what a resolved config says
is what a run does, on any machine; what depends on the number of samples is settled when they are known.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from wds_bone.config import option
from wds_bone.errors import ConfigError
from wds_bone.learn.hardware import (
    Device,
    Precision,
    default_threads,
    pick_device,
    pick_model,
    pick_precision,
    pick_rate,
)


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
    batch_size: int = option("samples per step", default=32)
    lr: float | None = option("highest learning rate (default: by the model, 2e-3 for resnet18)", default=None)
    weight_decay: float = option("of AdamW", default=0.05)
    ema: float | None = option(
        "decay of the moving average of the weights, 0 for none (default: reaches back a tenth of the run)",
        default=None,
    )
    seed: int = option("of initial weights, order and augmentation", default=0)
    threads: int | None = option("that decode images (default: 1 on a CPU, else one per core)", default=None)
    shuffle_buffer: int | None = option("places that a sample may move (default: the whole epoch)", default=None)
    device: Device = option("where the model is trained", default="auto")
    precision: Precision = option("of the forward pass; auto takes bf16 where hardware has it", default="auto")
    compile: bool = option("compile the model with torch.compile", default=False)
    resume: str = option("auto (go on with the run in --out), none, or a checkpoint", default="auto")
    log_every: int = option("steps between two lines of metrics", default=20)

    def __post_init__(self) -> None:
        _refuse_below(
            1, self, "image_size", "epochs", "max_steps", "batch_size", "threads", "shuffle_buffer", "log_every"
        )
        _refuse_below(0, self, "lr", "weight_decay", "ema", "seed")
        for name in ("lr", "weight_decay"):
            if not math.isfinite(getattr(self, name) or 0.0):
                raise _range_error(name, "a finite number", getattr(self, name))
        for name, limit in (("ema", 1), ("seed", 1 << 31)):
            if (getattr(self, name) or 0) >= limit:
                raise _range_error(name, f"less than {limit}", getattr(self, name))


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


def _refuse_below(least: int, config: TrainConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise _range_error(name, f"{least} or more", value)


def _range_error(name: str, expected: str, got: object) -> ConfigError:
    flag = f"--{name.replace('_', '-')}"
    return ConfigError(f"{flag} {got} makes no sense", expected=expected, got=got, do=f"give another {flag}")
