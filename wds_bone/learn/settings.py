"""The settings of a training run.

In: a command line, the machine, and the number of training samples.
Out: a checked `TrainConfig`, and the `Recipe` of its steps.
Invariant: a resolved config describes the run completely, on any machine.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from wds_bone.config import check_bounds, invalid_setting, option, option_of, setting_name
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
from wds_bone.model.augment import Ranges
from wds_bone.model.loss import SMALLEST_NUM_BINS
from wds_bone.model.model import Fusion
from wds_bone.paths import PathText, ShardsText
from wds_bone.remote.settings import RemoteOptions, check_cache, check_hosts


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run.

    By default, a setting has a flag and keeps its value when the run is resumed. `flag=False`: it is set by `--set` or
    `--config` only. `may_change`: it may change when the run is resumed. `may_differ`: it may also differ between the
    processes of the run.
    """

    train: tuple[ShardsText, ...] = option(
        "training shards: a manifest, a folder or tars",
        default=("shards/manifest.json",),
        metavar="PATH",
        may_differ=True,
    )
    val: tuple[ShardsText, ...] | None = option(
        "validation shards (default: the val split of --train)", default=None, metavar="PATH", may_differ=True
    )
    out: Path = option(
        "folder of the run", default=Path("runs/bone-age"), metavar="DIR", is_output=True, may_differ=True
    )
    model: str = option(
        "classifier of torchvision, timm:NAME for one of timm, or a residual network for small images such as "
        "residual-16x2222-s2; auto: residual-16x2222-s2 on a CPU, convnext_tiny on a GPU",
        default="auto",
        metavar="NAME",
    )
    init_weights: PathText = option(
        "initial weights; imagenet is downloaded if necessary", default="none", metavar="none|imagenet|FILE"
    )
    image_size: int | None = option(
        "longer side of the model's input in pixels (default: as stored)", default=None, metavar="PIXELS", min=1
    )
    epochs: int = option("number of passes over the training samples", default=40, min=1)
    max_steps: int | None = option(
        "stop after this step; the learning rate still follows --epochs", default=None, min=1, may_change=True
    )
    batch_size: int = option("number of samples per step over all processes", default=32, min=1)
    lr: float | None = option(
        "peak learning rate (default: depends on the model; 2e-3 for residual networks)", default=None, min=0
    )
    dropout: float | None = option(
        "dropout probability; 0 turns dropout off (default: that of the model)",
        default=None,
        min=0,
        below=1,
    )
    drop_path: float | None = option(
        "drop probability of the last stochastic depth layer; those of the others rise from 0 to it "
        "(default: that of the model)",
        default=None,
        min=0,
        below=1,
    )
    folds: int | None = option(
        "cross-validation: number of folds to divide the training split into; all films of a known patient are in one",
        default=None,
        min=2,
    )
    fold: int | None = option(
        "cross-validation: number of the fold to validate on, from 0; the others are used for training",
        default=None,
        min=0,
    )
    seed: int = option("seed of the initial weights, the order and the augmentation", default=0, min=0, below=1 << 31)
    threads: int | None = option(
        "number of threads that decode images (default: 1 on a CPU, one per core on a GPU)",
        default=None,
        min=1,
        may_differ=True,
    )
    device: Device = option("device to train on", default="auto", may_change=True)
    precision: Precision = option(
        "precision of the forward pass; auto: bf16 if the hardware supports it, otherwise fp32", default="auto"
    )
    compile: bool = option("compile the model with torch.compile", default=False, may_change=True)
    resume: PathText = option(
        "what to resume: auto is the run in --out, if there is one; FILE is the last.pt of a run",
        default="auto",
        metavar="auto|none|FILE",
        may_differ=True,
    )
    cache: PathText = option_of(RemoteOptions, "cache")
    allow_host: tuple[str, ...] | None = option_of(RemoteOptions, "allow_host")
    log_every: int = option("number of steps between lines of metrics", default=20, min=1, may_change=True)
    dry_run: bool = option(
        "take a few steps, print what the run would do and how long it would take, and write nothing",
        default=False,
        may_change=True,
    )
    weight_decay: float = option("weight decay of AdamW", default=0.05, min=0, flag=False)
    warmup: float = option(
        "fraction of the steps during which the learning rate rises", default=0.1, min=0, below=1, flag=False
    )
    clip_norm: float = option(
        "maximum norm of the gradient (larger ones are scaled down); 0: no limit", default=1.0, min=0, flag=False
    )
    loss_beta_months: float = option(
        "error in months above which the loss is linear, not squared; 0: L1 loss", default=3.0, min=0, flag=False
    )
    age_bins: int = option(
        "number of ages whose probabilities the model predicts; 0: it predicts the age itself",
        default=71,
        min=0,
        flag=False,
    )
    rare_ages: float = option(
        "exponent of the weight of rare ages in the loss; 0: all samples have the same weight",
        default=0.0,
        min=0,
        max=1,
        flag=False,
    )
    gender_fusion: Fusion = option(
        "how the model uses the gender: none, sum, concat, film or heads (a last layer for each)",
        default="sum",
        flag=False,
    )
    first_layer_rate: float = option(
        "learning rate of the first layer, as a fraction of that of new layers; those between change by equal factors",
        default=1.0,
        min=0.001,
        max=1,
        flag=False,
    )
    first_size: float = option(
        "size of the images in the first step, as a fraction of the final size, which they reach after 2/3 of the run",
        default=1.0,
        min=0.25,
        max=1,
        flag=False,
    )
    ema: float | None = option(
        "decay of the weight average; 0: off; none: derived from the length of the run",
        default=None,
        min=0,
        below=1,
        flag=False,
    )
    patience: int | None = option(
        "epochs without improvement before stopping; none: no limit",
        default=None,
        min=1,
        flag=False,
        may_change=True,
    )
    accumulate: int = option(
        "number of parts to split a batch into, to save memory",
        default=1,
        min=1,
        flag=False,
        may_change=True,
    )
    freeze_backbone: bool = option("train only the last layers; for pretrained weights", default=False, flag=False)
    sync_batch_norm: bool = option(
        "normalize over the whole batch of all processes; CUDA only", default=False, flag=False
    )
    shuffle_buffer: int | None = option(
        "shuffle window in samples; none: the whole epoch", default=None, min=1, flag=False
    )
    shuffle_windows: int | None = option(
        "for shards larger than every cache: number of shards whose samples are shuffled together; none: all",
        default=None,
        min=1,
        flag=False,
    )
    cache_bytes: int | None = option_of(RemoteOptions, "cache_bytes")
    timeout_seconds: float = option(
        "seconds to wait for an unresponsive process", default=300.0, min=1, flag=False, may_change=True
    )
    wandb: str | None = option(
        "project of Weights & Biases to send metrics and figures to, but no films; none: off",
        default=None,
        flag=False,
        may_change=True,
    )
    augment_flip: bool = option("mirror half of the images", default=True, flag=False)
    augment_turn_degrees: float = option(
        "maximum rotation in degrees, in either direction", default=8.0, min=0, flag=False
    )
    augment_scale: float = option("maximum change in size, as a fraction", default=0.06, min=0, below=1, flag=False)
    augment_shift: float = option("maximum shift, as a fraction of the image", default=0.04, min=0, below=1, flag=False)
    augment_contrast: float = option(
        "maximum change in contrast, as a fraction", default=0.1, min=0, below=1, flag=False
    )
    augment_brightness: float = option(
        "maximum change in brightness; 1 is the brightness of bone", default=0.05, min=0, flag=False
    )
    augment_gamma: float = option("maximum change in gamma, as a fraction", default=0.1, min=0, flag=False)
    augment_saturation: float = option(
        "maximum fraction of the pixels that become black, and of those that become white; each in half of the images",
        default=0.1,
        min=0,
        below=0.5,
        flag=False,
    )
    augment_sharpness: float = option(
        "maximum change in sharpness; 1: from a blur by one pixel to twice the details; in half of the images",
        default=1.0,
        min=0,
        max=1,
        flag=False,
    )
    augment_clahe: float = option(
        "maximum slope of the tone curves of CLAHE, which equalizes images locally; in half of the images; 0: off",
        default=3.0,
        min=0,
        max=256,
        flag=False,
    )
    augment_noise: float = option(
        "maximum standard deviation of noise, as a fraction of white; in half of the images",
        default=0.03,
        min=0,
        flag=False,
    )
    augment_jpeg: float = option(
        "maximum loss by JPEG compression, 100 minus its quality; in half of the images",
        default=50.0,
        min=0,
        below=100,
        flag=False,
    )
    augment_frame: float = option(
        "maximum width of a black frame, as a fraction of the film's shorter side; in half of the images",
        default=0.06,
        min=0,
        below=0.5,
        flag=False,
    )
    augment_erase: float = option(
        "maximum height and width of an erased box, as a fraction of the image", default=0.0, min=0, max=1, flag=False
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        check_cache(self.cache, self.cache_bytes)
        check_hosts(self.allow_host)
        _check_folds(self)
        _check_shuffle(self)
        _check_sizes(self)
        if 0 < self.age_bins < SMALLEST_NUM_BINS:
            expected = f"0, or at least {SMALLEST_NUM_BINS}"
            raise invalid_setting(self, "age_bins", expected, problem="is too coarse for a distribution over ages")
        random = [setting_name(TrainConfig, name) for name in ("dropout", "drop_path") if getattr(self, name)]
        if self.freeze_backbone and random:
            raise ConfigError(
                f"{' and '.join(random)}: no effect with freeze_backbone, which turns random layers off",
                do=f"leave {' and '.join(random)} out, or use --set freeze_backbone=false",
            )


@dataclass(frozen=True)
class Recipe:
    """What a training step follows: the resolved settings, and what is derived from them.

    Attributes:
        config: the resolved settings.
        num_steps: number of steps in the whole run, over which the learning rate changes.
        local_batch_size: samples per step of each process.
        peak_rate: the peak learning rate.
        ema: the maximum decay of the moving average.
        ranges: the ranges of the augmentation.
    """

    config: TrainConfig
    num_steps: int
    local_batch_size: int
    peak_rate: float
    ema: float
    ranges: Ranges

    @property
    def global_batch_size(self) -> int:
        """Samples per step, over all processes."""
        return self.config.batch_size


def resolve_config(config: TrainConfig) -> TrainConfig:
    """Replace "auto", and settings that are not set, with values that suit the machine.

    Raises:
        ConfigError: if CUDA is requested and not available.
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


def make_recipe(config: TrainConfig, *, num_samples: int, world_size: int) -> Recipe:
    """Return the recipe for a resolved config.

    Args:
        config: the resolved settings.
        num_samples: number of training samples.
        world_size: number of processes; with `accumulate`, it must divide the batch size.
    """
    assert config.lr is not None, "resolve_config sets it"
    num_steps = count_steps(num_samples, epochs=config.epochs, batch_size=config.batch_size)
    ema = default_ema(num_steps) if config.ema is None else config.ema
    return Recipe(
        replace(config, ema=ema),
        num_steps=num_steps,
        local_batch_size=config.batch_size // world_size,
        peak_rate=config.lr,
        ema=ema,
        ranges=Ranges(**{field.name: getattr(config, f"augment_{field.name}") for field in fields(Ranges)}),
    )


def count_steps(num_samples: int, *, epochs: int, batch_size: int) -> int:
    """Return the number of steps that show every sample `epochs` times; the last one may reach into the next epoch."""
    return -(-num_samples * epochs // batch_size)


def default_ema(num_steps: int) -> float:
    """Return the decay that averages about the last tenth of the steps."""
    return max(0.0, 1.0 - 10.0 / num_steps)


def refuse_indivisible(batch_size: int, *, num_ranks: int, num_parts: int) -> None:
    """Check that the batch can be divided equally among the ranks and their parts.

    Raises:
        ConfigError: if it cannot; the error names the nearest batch sizes that can.
    """
    unit = num_ranks * num_parts
    below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
    if below != above:
        nearest = f"{below} or {above}" if below else str(above)
        processes = "1 process" if num_ranks == 1 else f"{num_ranks} processes"
        among = processes + (f" of {num_parts} parts each (accumulate)" if num_parts > 1 else "")
        raise ConfigError(
            f"--batch-size {batch_size} cannot be divided equally among {among}",
            expected=f"a multiple of {unit}",
            got=batch_size,
            do=f"use --batch-size {nearest}" + (", or another number of processes" if num_ranks > 1 else ""),
        )


def _check_shuffle(config: TrainConfig) -> None:
    if config.shuffle_buffer is not None and config.shuffle_windows is not None:
        problem = "--set shuffle_buffer and shuffle_windows contradict each other"
        raise ConfigError(problem, expected="one of them", got="both", do="leave one of them out")


def _check_sizes(config: TrainConfig) -> None:
    """Check that no model is compiled for images that grow.

    It would be compiled for dozens of sizes, and how depends on the sizes before, which a resumed launch has not seen.
    """
    if config.compile and config.first_size < 1:
        raise ConfigError(
            "--compile and --set first_size contradict each other",
            expected="--no-compile, or --set first_size=1.0",
            got=f"--compile, --set first_size={config.first_size}",
            do="leave one of them out",
        )


def _check_folds(config: TrainConfig) -> None:
    if (config.folds is None) != (config.fold is None):
        raise ConfigError(
            "--folds and --fold must be given together",
            expected="both or neither",
            got=f"--folds {config.folds}, --fold {config.fold}",
            do="use --folds 5 --fold 0, then --fold 1 and so on",
        )
    if config.folds is None or config.fold is None:
        return
    if config.fold >= config.folds:
        raise invalid_setting(config, "fold", f"0 to {config.folds - 1}", problem="is out of range")
    if config.val is not None:
        raise ConfigError(
            "--folds and --val contradict each other",
            expected="one of them",
            got="both",
            do="leave --val out; the fold is the validation set",
        )
