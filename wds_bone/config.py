"""Declare the settings of a command as the fields of one frozen dataclass.

    @dataclass(frozen=True)
    class VerifyConfig:
        paths: tuple[str, ...] = option("shards, folders or manifests to check", positional=True, metavar="PATH")
        deep: bool = option("decode every image as well", default=False)

The bounds of a field, and whether it may change when a run is resumed, are declared on the field; `__post_init__` calls
`check_bounds` and checks combinations of fields. `command_line.py` makes the parser of a command from its dataclass.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wds_bone.errors import ConfigError
from wds_bone.redaction import redact


@dataclass(frozen=True)
class Option:
    """The properties of a setting other than its name, type and default.

    Attributes:
        help: the text in `--help`.
        metavar: the placeholder for the value in `--help`; None for the usual one of the type.
        positional: whether it is a positional argument instead of an option.
        flag: whether it has its own flag; if not, it is set by `--set` or in the `--config` file.
        min: the smallest value.
        max: the largest value.
        below: an exclusive upper bound.
        is_output: whether it is a path that the command writes to.
        may_be_pipe: whether it is a path that may also be a pipe or device.
        may_change: whether it may change when a run is resumed.
        may_differ: whether it may differ between the processes of a run, and change when the run is resumed.
    """

    help: str
    metavar: str | None = None
    positional: bool = False
    flag: bool = True
    min: float | None = None
    max: float | None = None
    below: float | None = None
    is_output: bool = False
    may_be_pipe: bool = False
    may_change: bool = False
    may_differ: bool = False

    def allows(self, value: float) -> bool:
        """Return whether a number is finite and within the bounds."""
        return (
            math.isfinite(value)
            and (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
            and (self.below is None or value < self.below)
        )

    def range_text(self) -> str:
        """Return the allowed range in words."""
        if self.min is None:
            return "a finite number"
        if self.max is not None:
            return f"{self.min} to {self.max}"
        return f"{self.min} or more, finite" if self.below is None else f"{self.min} to less than {self.below}"


def option(help: str, *, default: Any = dataclasses.MISSING, **traits: Any) -> Any:  # noqa: A002
    """Return a dataclass field for a setting; `traits` are attributes of `Option`.

    The annotation gives the type: `str`, `int`, `float`, `bool` (makes `--x` and `--no-x`), `Path`, `Literal[...]`
    (choices), `tuple[X, ...]` (one or more values), or any of these with `| None` (not set by default). Text that
    names files, such as a pattern, is a `PathText`, a `FileText` if it may also be a URL, and a
    `ShardsText` if it names shards.
    """
    return dataclasses.field(default=default, metadata={"option": Option(help, **traits)})


def option_of(config_class: Any, name: str) -> Any:
    """Return a field for a setting that another command declares, with the same help, default and bounds."""
    (field,) = (field for field in dataclasses.fields(config_class) if field.name == name)
    return dataclasses.field(default=field.default, metadata=field.metadata)


def options_of(config_class: Any) -> dict[str, Option]:
    """Return the options of a settings dataclass by field name, in order."""
    fields = dataclasses.fields(config_class)
    return {field.name: field.metadata["option"] for field in fields if "option" in field.metadata}


def setting_name(config_class: Any, name: str) -> str:
    """Return what changes a setting: `--batch-size`; `--set accumulate` without a flag; `IMAGE` if it is positional."""
    known = options_of(config_class)[name]
    if known.positional:
        return known.metavar or name.upper()
    return f"--{name.replace('_', '-')}" if known.flag else f"--set {name}"


def assignment(config_class: Any, name: str, value: object) -> str:
    """Return a setting and its value as they are typed: `--batch-size 32`, or `--set accumulate=2`."""
    option = setting_name(config_class, name)
    if value is None:
        return f"{option} not set"
    shown = str(value).lower() if isinstance(value, bool) else value
    return f"{option} {shown}" if options_of(config_class)[name].flag else f"{option}={shown}"


def check_bounds(config: Any) -> None:
    """Refuse numbers outside the bounds of their fields, and numbers that are not finite.

    Raises:
        ConfigError: if there is one; the error states the allowed range.
    """
    for name, known in options_of(config).items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not known.allows(number):
                raise invalid_setting(config, name, known.range_text(), problem="is out of range")


def invalid_setting(config: Any, name: str, expected: str, *, problem: str = "is not valid") -> ConfigError:
    """Return the error for a setting whose value is not allowed."""
    value = getattr(config, name)
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    do = f"use another value for {setting_name(config, name)}"
    return ConfigError(f"{assignment(config, name, shown)} {problem}", expected=expected, got=shown, do=do)


def config_as_json(config: Any) -> dict[str, Any]:
    """Return the settings as plain JSON types, in the order of the fields, without what is secret in URLs."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return redact(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
