"""Write the parts of `--help` that argparse does not write.

In: the fields of a settings dataclass, or names and texts.
Out: text.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any


class HelpFormatter(argparse.HelpFormatter):
    """Wraps the help of options, but keeps the line breaks of the epilog."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def describe_settings(unflagged: "Sequence[dataclasses.Field[Any]]") -> list[str]:
    """Return the lines of the list of settings that have no flag."""
    shown = {field.name: "none" if field.default is None else str(field.default).lower() for field in unflagged}
    texts = {field.name: field.metadata["option"].help for field in unflagged}
    lines = {name: f"{text} (default: {shown[name]})" for name, text in texts.items()}
    return list_texts("settings for --set and --config:", lines)


def list_texts(title: str, texts: dict[str, str]) -> list[str]:
    """Return the lines of a list of names and texts below a title; none if it is empty."""
    width = max(map(len, texts), default=0)
    return [title, *(f"  {name:{width}}  {text}" for name, text in texts.items()), ""] if texts else []


def help_text(field: "dataclasses.Field[Any]") -> str:
    """Return the help of an option, with its default."""
    text = str(field.metadata["option"].help).replace("%", "%%")
    shown = not isinstance(field.default, bool) and field.default not in (dataclasses.MISSING, None, ())
    default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f"{text} (default: {default})" if shown else text
