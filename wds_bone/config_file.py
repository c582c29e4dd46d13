"""Settings from a TOML file or from `--set key=value`, and back into a file.

In come names and values, out go values of the types that a settings dataclass declares. The invariant: what
`settings_as_toml` writes, `read_settings` reads as the same settings; a name or a value that does not fit is refused.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w

from wds_bone.errors import ConfigError

NOT_SET = "none"
"""How a setting that may be left open is said to be, which TOML has no word for."""


def read_settings(config_class: type[Any], path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file, by the names of the dataclass's fields.

    Raises:
        ConfigError: no such file, not TOML, a name that is no setting, or a value of another type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", do="give another --config") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not TOML", got=error, do="write lines such as: epochs = 20") from error
    return {name: _fit(config_class, name, value, where=str(path)) for name, value in values.items()}


def parse_assignments(config_class: type[Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return the settings in `key=value` words; the values are TOML, strings may go without quotes.

    Raises:
        ConfigError: no such setting, a value of another type, or a setting named twice.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name in settings:
            expected = "each setting once, as key=value"
            raise ConfigError(f"--set {assignment}", expected=expected, got=assignment, do="write --set key=value")
        settings[name] = _fit(config_class, name, _parse(text), where="--set", text=text)
    return settings


def settings_as_toml(settings: dict[str, Any]) -> bytes:
    """Return settings in plain types as a TOML file; those that are None are left out, as not set."""
    return tomli_w.dumps({name: value for name, value in settings.items() if value is not None}).encode()


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _fit(config_class: type[Any], name: str, value: Any, *, where: str, text: str | None = None) -> Any:
    """Return `value` as the type of its field; `text` is how it was written, which is a string, too."""
    known = [field.name for field in dataclasses.fields(config_class) if field.metadata]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        do = f"write {close[0]}" if close else "look at --help"
        raise ConfigError(f"{where}: no setting is called {name!r}", expected=", ".join(known), got=name, do=do)
    hint = typing.get_type_hints(config_class)[name]
    if value == NOT_SET and type(None) in typing.get_args(hint):
        return None
    for candidate in (value, None if isinstance(value, list) else text):
        if candidate is not None and (fitted := _convert(candidate, hint)) is not None:
            return fitted
    raise ConfigError(
        f"{where}: {name} = {value!r} does not fit",
        expected=_describe(hint),
        got=repr(value),
        do=f"give another {name}",
    )


def _convert(value: Any, hint: Any) -> Any:
    """Return a value as a type, None if it is of another."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return next((fitted for inner in arguments if (fitted := _convert(value, inner)) is not None), None)
    if origin is Literal:
        return value if value in arguments else None
    if origin is tuple:
        parts = [_convert(part, arguments[0]) for part in (value if isinstance(value, list) else [value])]
        return None if None in parts or not parts else tuple(parts)
    if hint is float and type(value) is int:
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    return value if type(value) is hint else None


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        return f"a list of {_describe(arguments[0])}"
    if arguments:
        return " or ".join(_describe(inner) for inner in arguments if inner is not type(None))
    return {str: "a string", Path: "a path", int: "a whole number", float: "a number", bool: "true or false"}[hint]
