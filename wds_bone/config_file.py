"""Read settings from a TOML file or from `--set key=value`, and write them to a file.

In: names and values as text.
Out: values of the types that a settings dataclass declares.
Invariant: `read_settings` returns the settings that `settings_as_toml` wrote; unknown names and values of a wrong type
are refused.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tomli_w

from wds_bone.config import options_of, setting_name
from wds_bone.errors import ConfigError
from wds_bone.paths import FileText, PathText, ShardsText, expand_path, is_remote, refuse_unreadable

NOT_SET = "none"
"""The value of an optional setting that is not set, because TOML has no null."""

_PATHS = (Path, PathText, FileText, ShardsText)


class Kind(NamedTuple):
    """The type of a setting: a base type or `Literal`, possibly optional, possibly a list.

    `length` is the number of values of a list, None for one or more.
    """

    base: Any
    is_optional: bool = False
    is_list: bool = False
    length: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether a value is text, which needs no quotes."""
        return self.base is str or self.is_path or typing.get_origin(self.base) is Literal

    @property
    def is_path(self) -> bool:
        """Whether a value is a path; it stays text until `paths.py` makes a path of it."""
        return self.base in _PATHS


def kind_of(hint: Any) -> Kind:
    """Return the kind that an annotation declares: `X`, `tuple[X, ...]`, `tuple[X, X]`, or one of them `| None`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return kind_of(inner)._replace(is_optional=True)
    if origin is not tuple:
        return Kind(hint)
    return Kind(arguments[0], is_list=True, length=None if arguments[1] is Ellipsis else len(arguments))


def read_settings(config_class: type[Any], path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file, by the names of the dataclass's fields.

    Raises:
        ConfigError: if the file is missing or not TOML, a name is not a setting, or a value has the wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", do="check the path of --config") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: is not TOML", got=error, do="write one setting per line, such as: epochs = 20"
        ) from error
    kinds = {name: _find_kind(config_class, name, str(path)) for name in values}
    return {name: _fit(name, value, kinds[name], str(path)) for name, value in values.items()}


def describe_presets(folder: Path) -> dict[str, str]:
    """Return the first line of each settings file in a folder, a comment on it, by the name of the file."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.toml"))}
    return {name: text.partition("\n")[0].removeprefix("# ") for name, text in texts.items()}


def parse_assignments(config_class: type[Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the settings in a list of `key=value`; values are TOML, but strings need no quotes.

    Raises:
        ConfigError: if a name is not a setting or occurs twice, or a value has the wrong type.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: has no value", expected="key=value", do="write --set key=value")
        if name in settings:
            raise ConfigError(f"--set {name}: is given twice", expected="each setting once", do="leave one of them out")
        kind = _find_kind(config_class, name, "--set")
        settings[name] = _fit(name, _parse(text, kind), kind, "--set")
    return settings


def settings_as_toml(settings: dict[str, Any]) -> bytes:
    """Return settings in plain types as a TOML file, without those that are None.

    A path that is not valid UTF-8 keeps its bytes.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    return tomli_w.dumps(given).encode(errors="surrogateescape")


def resolve_paths(config_class: type[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the text of each path converted to its type, `~` expanded and `file://` removed.

    Raises:
        ConfigError: if there can be no such path, or it is to be read and exists but cannot be.
    """
    hints = typing.get_type_hints(config_class)
    kinds = {name: kind_of(hints[name]) for name in settings}
    resolve = partial(_resolve_path, config_class)
    return {
        name: resolve(name, value, kinds[name].base) if value is not None and kinds[name].is_path else value
        for name, value in settings.items()
    }


def _resolve_path(config_class: type[Any], name: str, value: Any, base: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_resolve_path(config_class, name, part, base) for part in value)
    known, option = options_of(config_class)[name], setting_name(config_class, name)
    path = expand_path(value, option=option, may_be_url=base in (FileText, ShardsText))
    if not known.is_output and not is_remote(path):
        refuse_unreadable(path, option=option, may_be_pipe=known.may_be_pipe)
    return Path(path) if base is Path else path


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that is most similar to a mistyped one, or None if none is similar."""
    return next(iter(difflib.get_close_matches(word, known, n=1)), None)


def _parse(text: str, kind: Kind) -> Any:
    """Parse `text` as a TOML value; where text is expected, it needs no quotes."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if kind.is_text and not isinstance(value, str | list) else value


def _find_kind(config_class: type[Any], name: str, where: str) -> Kind:
    known = [field.name for field in dataclasses.fields(config_class) if field.metadata]
    if name not in known:
        similar = closest(name, known)
        do = f"use {similar}" if similar else "see --help"
        raise ConfigError(f"{where}: unknown setting {name!r}", expected=", ".join(known), got=name, do=do)
    return kind_of(typing.get_type_hints(config_class)[name])


def _fit(name: str, value: Any, kind: Kind, where: str) -> Any:
    """Convert `value` to a setting of that kind, or refuse it."""
    try:
        return _convert(value, kind)
    except TypeError as error:
        raise ConfigError(
            f"{where}: {name} = {value!r} is not valid",
            expected=_describe(kind),
            got=repr(value),
            do=f"use another value for {name}",
        ) from error


def _convert(value: Any, kind: Kind) -> Any:
    if kind.is_optional and value == NOT_SET:
        return None
    if not kind.is_list:
        return _convert_one(value, kind.base)
    parts = value if isinstance(value, list) else [value]
    if not parts or kind.length not in (None, len(parts)):
        raise TypeError(f"a list of {len(parts)}")
    return tuple(_convert_one(part, kind.base) for part in parts)


def _convert_one(value: Any, base: Any) -> Any:
    if base is float and type(value) is int:
        return float(value)
    if base in _PATHS and isinstance(value, str):
        return value
    is_choice = typing.get_origin(base) is Literal
    if (value in typing.get_args(base)) if is_choice else (type(value) is base):
        return value
    raise TypeError(type(value).__name__)


def _describe(kind: Kind) -> str:
    names = {
        str: "a string",
        Path: "a path",
        PathText: "a path",
        FileText: "a path or URL",
        ShardsText: "a path or URL",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
    }
    base = " or ".join(map(str, typing.get_args(kind.base))) or names[kind.base]
    if not kind.is_list:
        return base
    return f"a list; each element is {base}" if kind.length is None else f"a list of {kind.length}; each is {base}"
