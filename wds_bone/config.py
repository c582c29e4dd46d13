"""Command lines: one frozen dataclass per command becomes its argparse parser, and errors become exit code 2.

A command is `main(argv) -> exit code`; its settings are the fields of a dataclass, each one line with its help:

    @dataclass(frozen=True)
    class VerifyConfig:
        paths: tuple[str, ...] = option("shards, folders or manifests to check", positional=True)
        deep: bool = option("decode every image too", default=False)

Checks of single values and of combinations belong in `__post_init__`, which raises `ConfigError`. A field that is only
seldom changed is a `knob`: not a flag of its own, but set by `--set key=value` or in the file given as `--config`.
"""

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from wds_bone.config_file import parse_assignments, read_settings
from wds_bone.errors import ConfigError, WdsBoneError

Config = TypeVar("Config")
USER_ERROR = 2
_FILE, _SET = "settings file", "settings"  # no names of fields


def option(
    text: str, *, default: Any = dataclasses.MISSING, positional: bool = False, metavar: str | None = None
) -> Any:
    """Return a dataclass field that is also a command line option.

    The annotation gives the type: `str`, `int`, `float`, `bool` (makes `--x` and `--no-x`), `Path`, `Literal[...]`
    (choices), `X | None` (not set by default) and `tuple[X, ...]` (one or more values).
    """
    metadata = {"help": text, "positional": positional, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def knob(text: str, *, default: Any) -> Any:
    """Return a dataclass field that `--set` and `--config` can change, but that has no flag of its own."""
    return dataclasses.field(default=default, metadata={"help": text, "is_knob": True})


def parse_config(config_class: type[Config], argv: Sequence[str] | None, *, prog: str, description: str) -> Config:
    """Parse `argv` (default: the process's) into `config_class`.

    Where there are knobs, flags and `--set` win over `--config`, which wins over the defaults.

    Raises:
        ConfigError: from the checks of the dataclass, or settings that are given twice, unknown or of another type.
        SystemExit: with code 2 for unknown options and malformed values, as argparse does.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=description, allow_abbrev=False, formatter_class=_HelpFormatter
    )
    hints, fields = typing.get_type_hints(config_class), dataclasses.fields(config_class)  # type: ignore[arg-type]
    for field in fields:
        if field.metadata and not field.metadata.get("is_knob"):
            _add_argument(parser, field, hints[field.name])
    if knobs := [field for field in fields if field.metadata.get("is_knob")]:
        _add_knobs(parser, knobs)
    given = vars(parser.parse_args(argv))
    return config_class(**_merge(config_class, given))


def config_as_json(config: Any) -> dict[str, Any]:
    """Return the settings as plain JSON types, in the order of the fields."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def run_command(command: Callable[[], int | None]) -> int:
    """Run `command`; an error the user can mend is printed to stderr and becomes exit code 2."""
    try:
        return command() or 0
    except WdsBoneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return USER_ERROR


def _merge(config_class: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a command line, those of its file and of its `--set` among them."""
    path, assignments = given.pop(_FILE, None), given.pop(_SET, ())
    from_file = {} if path is None else read_settings(config_class, path)
    assigned = parse_assignments(config_class, assignments)
    if twice := sorted(assigned.keys() & given.keys()):
        flag = f"--{twice[0].replace('_', '-')}"
        raise ConfigError(f"{flag} and --set {twice[0]}", expected="one of them", got="both", do="leave one out")
    return from_file | assigned | given


def _add_knobs(parser: argparse.ArgumentParser, knobs: "Sequence[dataclasses.Field[Any]]") -> None:
    parser.add_argument(
        "--config", dest=_FILE, type=Path, metavar="FILE", default=argparse.SUPPRESS, help="settings from a TOML file"
    )
    parser.add_argument(
        "--set",
        dest=_SET,
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        default=argparse.SUPPRESS,
        help="any setting; those below have no flag of their own",
    )
    width = max(len(field.name) for field in knobs)
    lines = [f"  {field.name:{width}}  {field.metadata['help']} (default: {_shown(field.default)})" for field in knobs]
    parser.epilog = "\n".join(["settings for --set and --config:", *lines])


def _shown(value: Any) -> str:
    return "none" if value is None else str(value).lower()


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps the help of options, and leaves the lines of an epilog as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def _add_argument(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", hint: Any) -> None:
    required = field.default is dataclasses.MISSING
    kwargs: dict[str, Any] = {"help": _help_text(field), **_argument_type(hint)}
    if field.metadata["metavar"]:
        kwargs["metavar"] = field.metadata["metavar"]
    if field.metadata["positional"]:
        if not required:
            kwargs |= {"default": field.default, "nargs": "*"}  # argparse gives [] in the place of what is left out
        parser.add_argument(field.name, **kwargs)
        return
    kwargs |= {"required": True} if required else {"default": argparse.SUPPRESS}
    parser.add_argument("--" + field.name.replace("_", "-"), dest=field.name, **kwargs)


def _help_text(field: "dataclasses.Field[Any]") -> str:
    text = str(field.metadata["help"]).replace("%", "%%")
    shown = field.default not in (dataclasses.MISSING, None, (), False, True)
    default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f"{text} (default: {default})" if shown else text


def _argument_type(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _argument_type(inner)
    if origin is tuple:
        return _argument_type(arguments[0]) | {"nargs": "+", "action": _Tuple}
    if origin is Literal:
        return {"choices": list(arguments)}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": hint}


class _Tuple(argparse.Action):
    """Store the values as a tuple, as frozen settings want them."""

    def __call__(self, _parser: Any, namespace: argparse.Namespace, values: Any, _option: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(values))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
