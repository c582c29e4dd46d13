"""Parse command lines into frozen dataclasses, and run commands: their errors, signals and streams give the exit code.

In: the words of a command line, and the dataclass of a command's settings.
Out: the settings, or an error with the most similar option; help texts that end with an example; exit codes.
Invariant: flags and `--set` take precedence over `--config`, which takes precedence over `--preset`, which takes
precedence over the defaults.
"""

import argparse
import dataclasses
import os
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from wds_bone.config import options_of, setting_name
from wds_bone.config_file import (
    Kind,
    closest,
    describe_presets,
    kind_of,
    parse_assignments,
    read_settings,
    resolve_paths,
)
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.help_texts import HelpFormatter, describe_settings, help_text, list_texts
from wds_bone.interrupt import Interrupted, Interruption
from wds_bone.paths import expand_path, refuse_unreadable
from wds_bone.standard_streams import StandardStreams

Config = TypeVar("Config")
EXIT_SOME_FAILED = 1
"""The exit code of a command that could not use some of the films, and is done with the others."""
USER_ERROR = 2
_PRESET, _FILE, _SET = "preset", "settings file", "settings"  # must differ from the names of all fields


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: what is typed.
        summary: what it does, in a few words.
        description: what it does, in sentences.
        example: a command line.
        after_signal: what a signal left behind, and what to do, as the rest of a sentence.
        prints_result: whether its result is what it prints; otherwise, it can continue when its output is lost.
        presets: a folder of settings files, which `--preset NAME` chooses from; None if there are none.
    """

    name: str
    summary: str
    description: str
    example: str
    after_signal: str = "run the same command again"
    prints_result: bool = False
    presets: Path | None = None


def parse_config(config_class: type[Config], argv: Sequence[str] | None, command: Command) -> Config:
    """Parse `argv` (default: the command line of the process) into `config_class`.

    Flags and `--set` take precedence over `--config`, which takes precedence over `--preset`, which takes precedence
    over the defaults.

    Raises:
        ConfigError: if an option is unknown or a value is malformed, out of range or given twice.
        SystemExit: with code 0 after `--help`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser, flags = _build_parser(config_class, command)
    settings = {name: f"--set {name}=VALUE" for name, known in options_of(config_class).items() if not known.flag}
    _refuse_unknown_flags(words, flags, settings, command)
    given = vars(parser.parse_args(words))
    return config_class(**resolve_paths(config_class, _merge(config_class, given, command)))


def run_command(
    command: Command, *, parse: Callable[[], Config], run: Callable[[Config, Interruption], int | None]
) -> int:
    """Run a command and return its exit code: that of `run`, 2 after an error of the user's, 128 + n after signal n.

    Args:
        command: the command.
        parse: returns its settings; prints its help.
        run: does its work. A signal raises `Interrupted`, except inside `interruption.deferred()`.
    """
    with StandardStreams(command.name) as streams:
        try:
            with Interruption() as interruption:
                config = parse()
                streams.output_is_result = command.prints_result
                return run(config, interruption) or 0
        except WdsBoneError as error:
            return _print_error(error)
        except OSError as error:
            if error.filename is None:
                raise
            # The last resort for faults of a file system that no code near the file reports.
            problem = f"{error.filename}: cannot be used: {error.strerror}"
            return _print_error(
                WdsBoneError(problem, do="check the path, its permissions and the limits of the machine")
            )
        except Interrupted as interrupted:
            if is_first_on_host():
                print(f"{interrupted}; {command.after_signal}", file=sys.stderr)  # noqa: T201
            return interrupted.exit_code


def _print_error(error: WdsBoneError) -> int:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return USER_ERROR


def is_first_on_host() -> bool:
    """Return whether this process prints what all processes that a launcher started on this machine would print."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _merge(config_class: type[Any], given: dict[str, Any], command: Command) -> dict[str, Any]:
    """Return the settings of a command line, including those from `--preset`, `--config` and `--set`."""
    preset, path, assignments = given.pop(_PRESET, None), given.pop(_FILE, None), given.pop(_SET, ())
    from_preset = read_settings(config_class, command.presets / f"{preset}.toml") if command.presets and preset else {}
    from_file = {} if path is None else read_settings(config_class, _settings_file(path))
    assigned = parse_assignments(config_class, assignments)
    if twice := sorted(assigned.keys() & given.keys()):
        flag = setting_name(config_class, twice[0])
        problem = f"{flag} and --set {twice[0]} change the same setting"
        raise ConfigError(problem, expected="one of them", got="both", do="leave one of them out")
    return from_preset | from_file | assigned | given


def _settings_file(text: str) -> Path:
    path = expand_path(text, option="--config")
    refuse_unreadable(path, option="--config")
    return Path(path)


class _Parser(argparse.ArgumentParser):
    """Raises a `ConfigError` where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}", do=f"see `{self.prog} --help`")


class _Tuple(argparse.Action):
    """Stores the values as a tuple, because settings are frozen; an option of any length may be given repeatedly."""

    def __call__(self, _parser: Any, namespace: argparse.Namespace, values: Any, _option: str | None = None) -> None:
        repeats = self.option_strings and self.nargs == "+"
        earlier = (getattr(namespace, self.dest, None) or ()) if repeats else ()
        setattr(namespace, self.dest, (*earlier, *values))


def _build_parser(config_class: type[Any], command: Command) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser of a command and all its flags."""
    parser = _Parser(
        prog=command.name,
        description=command.description,
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    hints, fields = typing.get_type_hints(config_class), dataclasses.fields(config_class)
    flags = ["--help"]
    for field in fields:
        if "option" in field.metadata and field.metadata["option"].flag:
            flags += _add_argument(parser, field, kind_of(hints[field.name]))
    unflagged = [field for field in fields if "option" in field.metadata and not field.metadata["option"].flag]
    flags += _add_settings(parser) if unflagged else []
    presets = describe_presets(command.presets) if command.presets else {}
    flags += _add_preset(parser, list(presets)) if presets else []
    texts = [*list_texts("presets:", presets), *describe_settings(unflagged)]
    parser.epilog = "\n".join([*texts, "example:", f"  {command.example}"])
    return parser, flags


def _refuse_unknown_flags(
    words: Sequence[str], flags: Sequence[str], settings: dict[str, str], command: Command
) -> None:
    """Refuse an unknown option and suggest the most similar one; argparse would report missing options first."""
    for word in words:
        flag = word.partition("=")[0]
        if word == "--":
            return
        if flag.startswith("--") and flag not in flags:
            similar = settings.get(flag[2:].replace("-", "_")) or closest(flag, flags)
            do = f"see `{command.name} --help`" if similar is None else f"use {similar}"
            raise ConfigError(f"{command.name}: unknown option {flag}", expected=similar, got=flag, do=do)


def _add_argument(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", kind: Kind) -> Sequence[str]:
    known, required = field.metadata["option"], field.default is dataclasses.MISSING
    kwargs: dict[str, Any] = {"help": help_text(field), **_argument_type(kind)}
    if known.metavar:
        kwargs["metavar"] = tuple(known.metavar.split()) if kind.length else known.metavar
    if known.positional:
        if not required:
            kwargs |= {"default": field.default, "nargs": "*"}  # without a default, argparse returns []
        return parser.add_argument(field.name, **kwargs).option_strings
    kwargs |= {"required": True} if required else {"default": argparse.SUPPRESS}
    return parser.add_argument("--" + field.name.replace("_", "-"), dest=field.name, **kwargs).option_strings


def _add_settings(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Add `--config` and `--set`."""
    common: dict[str, Any] = {"default": argparse.SUPPRESS}
    config = parser.add_argument(
        "--config", dest=_FILE, metavar="FILE", help="read settings from a TOML file", **common
    )
    text = "change any setting by name, including those below that have no flag"
    assign = parser.add_argument(
        "--set", dest=_SET, nargs="+", action="extend", metavar="KEY=VALUE", help=text, **common
    )
    yield from (*config.option_strings, *assign.option_strings)


def _add_preset(parser: argparse.ArgumentParser, names: list[str]) -> Sequence[str]:
    text = "settings that were chosen together (see below); --config, --set and other options take precedence"
    added = parser.add_argument("--preset", dest=_PRESET, choices=names, help=text, default=argparse.SUPPRESS)
    return added.option_strings


def _argument_type(kind: Kind) -> dict[str, Any]:
    if kind.base is bool:
        return {"action": argparse.BooleanOptionalAction}
    several = {"nargs": kind.length or "+", "action": _Tuple} if kind.is_list else {}
    if typing.get_origin(kind.base) is Literal:
        return {"choices": list(typing.get_args(kind.base)), **several}
    metavar = {int: "N", float: "X"}.get(kind.base)
    return {"type": str if kind.is_path else kind.base, **({"metavar": metavar} if metavar else {}), **several}
