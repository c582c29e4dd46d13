"""The settings of predict, one field per option.

In: the command line.
Out: a `PredictConfig`.
Invariant: the gender of every child comes from exactly one source; options that contradict each other, or that have no
effect without another one, are refused before anything is read or written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wds_bone.config import check_bounds, invalid_setting, option, option_of, setting_name
from wds_bone.distributed.hardware import Device
from wds_bone.errors import ConfigError, LabelError
from wds_bone.inference.rows import RowFormat
from wds_bone.labels.columns import LabelColumns
from wds_bone.labels.genders import parse_gender
from wds_bone.labels.values import Gender
from wds_bone.paths import refuse_unusable_folder
from wds_bone.sharding.settings import MakeShardsConfig

ROW_FORMATS: dict[str, RowFormat] = {".csv": "csv", ".jsonl": "jsonl"}
COLUMN_OPTIONS = ("id_column", "gender_column", "gender_is", "gender_words", "delimiter", "id_width")


@dataclass(frozen=True)
class PredictConfig:
    """The settings of one prediction."""

    checkpoint: tuple[Path, ...] = option(
        "best.pt of a training run; the predictions of several, such as those of folds, are averaged", metavar="FILE"
    )
    films: tuple[str, ...] = option(
        "films (PNG, JPEG, TIFF or DICOM), folders of films, or quoted patterns such as 'ward/*.dcm'; "
        "- reads these from standard input, one per line",
        default=(),
        positional=True,
        metavar="IMAGE",
    )
    gender: str | None = option(
        "gender of the children in all these films, such as F or M", default=None, metavar="WORD"
    )
    gender_from_dicom: bool = option(
        "read the gender of each child from its DICOM film, whose PatientSex must be F or M", default=False
    )
    table: Path | None = option(
        "table with the id and the gender of each film, .csv or .xlsx; ages are not needed",
        default=None,
        metavar="FILE",
        may_be_pipe=True,
    )
    images: tuple[Path, ...] = option(
        "folders of the films in --table; their file names are the ids", default=(), metavar="DIR"
    )
    out: Path | None = option(
        "file to write when all films are done, .csv or .jsonl; an existing one is replaced (default: print CSV)",
        default=None,
        metavar="FILE",
        is_output=True,
    )
    tta: bool = option("average the predictions for more views of each film, which takes longer", default=False)
    threads: int | None = option(
        "threads that read and decode films (default: 1 on a CPU; on a GPU one per core)", default=None, min=1
    )
    device: Device = option("device to run the model on", default="auto")
    id_column: str | None = option_of(MakeShardsConfig, "id_column")
    gender_column: str | None = option_of(MakeShardsConfig, "gender_column")
    gender_is: Literal["male", "female"] | None = option_of(MakeShardsConfig, "gender_is")
    gender_words: tuple[str, ...] = option_of(MakeShardsConfig, "gender_words")
    delimiter: str = option_of(MakeShardsConfig, "delimiter")
    id_width: int | None = option_of(MakeShardsConfig, "id_width")

    @property
    def label_columns(self) -> LabelColumns:
        """What the options say about the table."""
        return LabelColumns(
            id_column=self.id_column,
            gender_column=self.gender_column,
            gender_is=self.gender_is,
            gender_words=self.gender_words,
            delimiter=self.delimiter,
            id_width=self.id_width,
        )

    @property
    def gender_of_all(self) -> Gender | None:
        """The gender of all children, if it is given.

        Raises:
            ConfigError: if it is not recognized.
        """
        try:
            return None if self.gender is None else parse_gender(self.gender, where="--gender")
        except LabelError as error:
            do = "use F or M; a gender is never guessed"
            raise ConfigError(error.problem, expected=error.expected, got=error.got, do=do) from error

    @property
    def row_format(self) -> RowFormat:
        """The format of the table, after `refuse_unusable_out`."""
        return "csv" if self.out is None else ROW_FORMATS[self.out.suffix.lower()]

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_inputs(self)
        _ = self.label_columns, self.gender_of_all  # their creation checks the options


def refuse_unusable_out(config: PredictConfig) -> None:
    """Check `--out` before any work is done.

    Raises:
        ConfigError: if its suffix is no format, something else is in its place, or it is also read.
    """
    if config.out is None:
        return
    if config.out.suffix.lower() not in ROW_FORMATS:
        raise invalid_setting(config, "out", f"a name that ends in {' or '.join(ROW_FORMATS)}")
    refuse_unusable_folder(config.out.parent, files=[config.out.name])
    for path in (*config.checkpoint, config.table):
        if path is not None and path.exists() and config.out.exists() and config.out.samefile(path):
            problem = f"--out {config.out}: is also read"
            raise ConfigError(problem, expected="a new file", got=str(path), do="use another --out")


def _check_inputs(config: PredictConfig) -> None:
    if bool(config.films) == (config.table is not None):
        raise _no_inputs_error(config)
    if config.table is None:
        _check_named_films(config)
        return
    if given := _first_given(config, "gender", "gender_from_dicom"):
        do = f"leave {given} out; the table has a gender for each film"
        raise ConfigError(f"{given} and --table contradict each other", expected="one of them", got="both", do=do)
    if not config.images:
        raise ConfigError("--table without --images", expected="both", got="no folder", do="add --images DIR")


def _check_named_films(config: PredictConfig) -> None:
    if given := _first_given(config, "images", *COLUMN_OPTIONS):
        do = f"leave {given} out, or name a --table instead of films"
        raise ConfigError(f"{given} without --table", expected="both", got="no --table", do=do)
    if (config.gender is not None) == config.gender_from_dicom:
        raise ConfigError(
            "the gender of the children is given twice" if config.gender_from_dicom else "no --gender",
            expected="--gender F, --gender M or --gender-from-dicom, or a --table with a gender for each film",
            got="both" if config.gender_from_dicom else "none of them",
            do="state the gender once; it is never guessed",
        )


def _no_inputs_error(config: PredictConfig) -> ConfigError:
    if config.films:
        problem, got, do = "films and --table were given", "both", "put the films into a folder, and use --images"
    else:
        problem, got, do = "no films to predict", "none", "name at least one film"
        if len(config.checkpoint) > 1:
            do += "; put the films before --checkpoint, or after --"
    return ConfigError(problem, expected="films, folders or patterns, or --table and --images", got=got, do=do)


def _first_given(config: PredictConfig, *names: str) -> str | None:
    """Return the first of these settings that does not have its default, as it is typed."""
    given = (name for name in names if getattr(config, name) not in (None, (), False, ","))
    return next((setting_name(PredictConfig, name) for name in given), None)
