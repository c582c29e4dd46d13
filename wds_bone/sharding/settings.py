"""The settings of make_shards, one field per option.

In: the command line. Out: a `MakeShardsConfig`. Invariant: values out of range and options that contradict each other
are refused before anything is read or written.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wds_bone.config import option
from wds_bone.errors import ConfigError
from wds_bone.shards.encoding import USUAL_QUALITY
from wds_bone.shards.manifest import Encoding

USUAL_NUM_HANDS = 2000
USUAL_FILM_PIXELS, USUAL_HAND_PIXELS = 512, 128
MIN_SIDE_PIXELS, MAX_SIDE_PIXELS = 16, 4096
USUAL_VAL_FRACTION = 0.1
SPLIT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class MakeShardsConfig:
    """The settings of make_shards."""

    labels: Path | None = option("label table (.csv, .xlsx)", default=None, metavar="FILE")
    images: tuple[Path, ...] = option("folders with the films, named by their ids", default=(), metavar="DIR")
    out: Path = option("folder for the set", default=Path("shards"), metavar="DIR")
    split: str | None = option("put all samples into one split of this name", default=None, metavar="NAME")
    val_fraction: float | None = option(
        f"hold out this share as the split val; the rest is train (default: {USUAL_VAL_FRACTION}, unless --split)",
        default=None,
    )
    size: int | None = option(
        f"height and width of the images (default: {USUAL_FILM_PIXELS}, synthetic {USUAL_HAND_PIXELS})",
        default=None,
        metavar="PIXELS",
    )
    encoding: Encoding = option("of the images in the shards", default="jpg")
    quality: int = option("of jpg, 1 to 100", default=USUAL_QUALITY)
    stretch: tuple[float, float] | None = option(
        "two percentiles of brightness that become black and white (default: films stay as they are)",
        default=None,
        metavar="PERCENT",
    )
    samples_per_shard: int | None = option(
        "at most (default: what gives about 12 shards, but no more than 1000)", default=None, metavar="N"
    )
    workers: int | None = option("shards written at a time (default: one per core)", default=None, metavar="N")
    seed: int = option("of the split, the order and the synthetic hands", default=0)
    on_bad: Literal["stop", "skip"] = option("what to do with bad samples", default="stop")
    max_bad: int | None = option("with --on-bad skip: stop after this many", default=None, metavar="N")
    synthetic: int | None = option(
        f"draw so many hands instead of reading films (default without --labels: {USUAL_NUM_HANDS})",
        default=None,
        metavar="N",
    )
    replace: bool = option("write splits anew that are there already; the old ones stay until then", default=False)
    id_column: str | None = option("column of the ids, if its name does not say so", default=None, metavar="NAME")
    age_column: str | None = option("column of the bone ages", default=None, metavar="NAME")
    gender_column: str | None = option("column of the gender", default=None, metavar="NAME")
    gender_is: Literal["male", "female"] | None = option("what 1 and true mean in that column", default=None)
    age_unit: Literal["months", "years"] | None = option("of the ages", default=None)

    def __post_init__(self) -> None:
        _check_inputs(self)
        _check_ranges(self)
        if (self.on_bad == "skip") != (self.max_bad is not None):
            raise ConfigError(
                "--on-bad skip and --max-bad belong together",
                expected="both or neither",
                got=f"--on-bad {self.on_bad}, --max-bad {self.max_bad}",
                do="say how many bad samples may be left out: --on-bad skip --max-bad 20",
            )


def is_side(pixels: int) -> bool:
    """Return whether images may be letterboxed to this height and width."""
    return MIN_SIDE_PIXELS <= pixels <= MAX_SIDE_PIXELS


def _check_inputs(config: MakeShardsConfig) -> None:
    of_films = ("images", "stretch", "id_column", "age_column", "gender_column", "gender_is", "age_unit")
    given = ["--" + name.replace("_", "-") for name in of_films if getattr(config, name)]
    if config.labels is not None and not config.images:
        raise ConfigError("--labels without --images", expected="both", got="no folder", do="add --images DIR")
    if config.labels is None and given:
        raise ConfigError(f"{given[0]} without --labels", expected="both", got="no label table", do="add --labels FILE")
    if config.labels is not None and config.synthetic is not None:
        raise ConfigError("--labels and --synthetic contradict each other", do="leave one of them out")
    if config.split is not None and config.val_fraction is not None:
        raise ConfigError("--split and --val-fraction contradict each other", do="leave one of them out")


def _check_ranges(config: MakeShardsConfig) -> None:
    stretch = config.stretch or (0.0, 100.0)
    checks = {
        "--size": (config.size is None or is_side(config.size), f"{MIN_SIDE_PIXELS} to {MAX_SIDE_PIXELS}"),
        "--quality": (1 <= config.quality <= 100, "1 to 100"),
        "--val-fraction": (config.val_fraction is None or 0 <= config.val_fraction < 1, "0 to less than 1"),
        "--samples-per-shard": (config.samples_per_shard is None or config.samples_per_shard > 0, "at least 1"),
        "--workers": (config.workers is None or config.workers > 0, "at least 1"),
        "--synthetic": (config.synthetic is None or config.synthetic > 0, "at least 1"),
        "--max-bad": (config.max_bad is None or config.max_bad >= 0, "at least 0"),
        "--stretch": (len(stretch) == 2 and 0 <= stretch[0] < stretch[1] <= 100, "two rising percentiles"),
        "--split": (config.split is None or SPLIT_PATTERN.fullmatch(config.split) is not None, SPLIT_PATTERN.pattern),
    }
    for name, (is_good, expected) in checks.items():
        if not is_good:
            got = getattr(config, name[2:].replace("-", "_"))
            raise ConfigError(f"{name}: out of range", expected=expected, got=got, do=f"give another {name}")
