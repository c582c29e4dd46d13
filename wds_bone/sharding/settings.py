"""The settings of make-shards, one field per option.

In: the command line.
Out: a `MakeShardsConfig`.
Invariant: values out of range and options that contradict each other are refused before anything is read or written.
"""

import re
from dataclasses import dataclass
from typing import Literal

from wds_bone.config import check_bounds, invalid_setting, option, option_of, setting_name
from wds_bone.errors import ConfigError
from wds_bone.labels.csv_table import DELIMITERS
from wds_bone.labels.keys import MAX_ID_WIDTH
from wds_bone.labels.read import LabelColumns
from wds_bone.paths import FileText
from wds_bone.remote.settings import RemoteOptions, check_hosts
from wds_bone.sharding.lists import KEYS_NAME
from wds_bone.shards.encoding import DEFAULT_QUALITY
from wds_bone.shards.manifest import Encoding

DEFAULT_NUM_HANDS = 2000
DEFAULT_FILM_PIXELS, DEFAULT_HAND_PIXELS = 512, 128
MIN_SIDE_PIXELS, MAX_SIDE_PIXELS = 16, 4096
DEFAULT_VAL_FRACTION = 0.1
SPLIT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class MakeShardsConfig:
    """The settings of make-shards."""

    labels: FileText | None = option(
        "label table, .csv or .xlsx, a file or URL (default: draw synthetic hands)",
        default=None,
        metavar="FILE",
        may_be_pipe=True,
    )
    images: tuple[FileText, ...] = option(
        "folders of films, or prefixes such as s3://bucket/films; the file names are the ids in the label table",
        default=(),
        metavar="DIR",
    )
    out: FileText = option(
        "folder of the set, or a prefix such as s3://bucket/shards", default="shards", metavar="DIR", is_output=True
    )
    split: str | None = option("put all samples into one split of this name", default=None, metavar="NAME")
    val_fraction: float | None = option(
        f"fraction of samples to hold out as the val split; the others become the train split "
        f"(default: {DEFAULT_VAL_FRACTION}, unless --split is given)",
        default=None,
        min=0,
        below=1,
    )
    size: int | None = option(
        f"height and width of the stored images in pixels "
        f"(default: {DEFAULT_FILM_PIXELS}; synthetic hands: {DEFAULT_HAND_PIXELS})",
        default=None,
        metavar="PIXELS",
        min=MIN_SIDE_PIXELS,
        max=MAX_SIDE_PIXELS,
    )
    encoding: Encoding = option("encoding of the stored images", default="jpg")
    quality: int = option("JPEG quality, 1 to 100", default=DEFAULT_QUALITY, min=1, max=100)
    stretch: tuple[float, float] | None = option(
        "two percentiles of brightness to map to black and white, such as 1 99 "
        "(default: keep the brightness of each film)",
        default=None,
        metavar="LOW HIGH",
        min=0,
        max=100,
    )
    samples_per_shard: int | None = option(
        "maximum number of samples per shard (default: about a twelfth of all, at most 1000)", default=None, min=1
    )
    workers: int | None = option("number of shards to write in parallel (default: one per core)", default=None, min=1)
    scheduler: str | None = option(
        "write the shards on the Dask cluster of the scheduler at this address, such as tcp://10.0.0.1:8786 "
        "(default: write them on this machine)",
        default=None,
        metavar="ADDRESS",
    )
    allow_host: tuple[str, ...] | None = option_of(RemoteOptions, "allow_host")
    seed: int = option("seed of the split, the order of the samples and the synthetic hands", default=0)
    on_bad: Literal["stop", "skip"] = option("whether to stop at a bad sample or to skip it", default="stop")
    max_bad: int | None = option("with --on-bad skip: maximum number of bad samples to skip", default=None, min=0)
    synthetic: int | None = option(
        f"draw N synthetic hands instead of reading films (default without --labels: {DEFAULT_NUM_HANDS})",
        default=None,
        min=1,
    )
    replace: bool = option("rewrite existing splits; the old ones are kept until the new ones are ready", default=False)
    id_column: str | None = option(
        "column with the ids (default: recognized by its name)", default=None, metavar="NAME"
    )
    patient_column: str | None = option(
        "column with the patients; all films of a patient stay in one split, and later in one fold "
        "(default: films are independent)",
        default=None,
        metavar="NAME",
    )
    age_column: str | None = option(
        "column with the bone ages (default: recognized by its name)", default=None, metavar="NAME"
    )
    gender_column: str | None = option(
        "column with the genders (default: recognized by its name)", default=None, metavar="NAME"
    )
    gender_is: Literal["male", "female"] | None = option(
        "meaning of 1 and true in the gender column (default: from the name of the column)", default=None
    )
    age_unit: Literal["months", "years"] | None = option(
        "unit of the ages in the table (default: from the name of the column, or months)", default=None
    )
    gender_words: tuple[str, ...] = option(
        "words of the gender column and the genders that they mean, such as H=M M=F or 1=M 2=F; "
        "they replace the words that are known by default",
        default=(),
        metavar="WORD=GENDER",
    )
    delimiter: str = option(
        f"separator of the cells of a CSV: {' '.join(DELIMITERS)}; "
        "with any other than the comma, decimal commas are read as well",
        default=",",
        metavar="CHARACTER",
    )
    id_width: int | None = option(
        "number of digits of ids that are numbers: leading zeros are added or dropped, so that 1 finds 00001.png "
        "with a width of 5 (default: read ids as they are)",
        default=None,
        metavar="DIGITS",
        min=1,
        max=MAX_ID_WIDTH,
    )
    safe_keys: bool = option(
        f"make keys from ids with spaces, dots, slashes or other characters, and list them in {KEYS_NAME} of the set",
        default=False,
    )

    @property
    def label_columns(self) -> LabelColumns:
        """What the options say about the label table."""
        return LabelColumns(
            id_column=self.id_column,
            age_column=self.age_column,
            gender_column=self.gender_column,
            gender_is=self.gender_is,
            age_unit=self.age_unit,
            gender_words=self.gender_words,
            id_width=self.id_width,
            safe_keys=self.safe_keys,
            delimiter=self.delimiter,
            patient_column=self.patient_column,
        )

    def __post_init__(self) -> None:
        check_bounds(self)
        check_hosts(self.allow_host)
        _check_inputs(self)
        _ = self.label_columns  # its creation checks the options
        if self.stretch is not None and not self.stretch[0] < self.stretch[1]:
            raise invalid_setting(self, "stretch", "two percentiles, the lower one first")
        if self.split is not None and not SPLIT_PATTERN.fullmatch(self.split):
            raise invalid_setting(self, "split", "1 to 64 of the characters A-Z a-z 0-9 _ -, not starting with -")
        if (self.on_bad == "skip") != (self.max_bad is not None):
            raise ConfigError(
                "--on-bad skip and --max-bad must be given together",
                expected="both or neither",
                got=f"--on-bad {self.on_bad}, --max-bad {self.max_bad}",
                do="say how many bad samples may be skipped: --on-bad skip --max-bad 20",
            )


def _check_inputs(config: MakeShardsConfig) -> None:
    """Refuse options that contradict each other, or that have no effect without another one."""
    need_labels = (
        *("images", "stretch", "id_column", "patient_column", "age_column", "gender_column", "gender_is", "age_unit"),
        *("gender_words", "delimiter", "id_width", "safe_keys"),
    )
    given = [
        setting_name(MakeShardsConfig, name)
        for name in need_labels
        if getattr(config, name) not in (None, (), False, ",")
    ]
    if config.labels is not None and not config.images:
        raise ConfigError("--labels without --images", expected="both", got="no folder", do="add --images DIR")
    if config.labels is None and given:
        raise ConfigError(f"{given[0]} without --labels", expected="both", got="no label table", do="add --labels FILE")
    if config.labels is not None and config.synthetic is not None:
        raise ConfigError("--labels and --synthetic contradict each other", do="leave one of them out")
    if config.scheduler is not None and config.workers is not None:
        raise ConfigError("--scheduler and --workers contradict each other", do="leave one of them out")
    if config.scheduler == "":
        raise invalid_setting(config, "scheduler", "an address, such as tcp://10.0.0.1:8786")
    if config.split is not None and config.val_fraction is not None:
        raise ConfigError("--split and --val-fraction contradict each other", do="leave one of them out")
