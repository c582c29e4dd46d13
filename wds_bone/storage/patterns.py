"""Expand patterns, in bounded memory.

In: a pattern such as `train-{000000..000011}.tar`, or a glob.
Out: the names or paths that it means, in its order.
Invariant: at most `MAX_LOCATIONS` names are made; a path that exists is never a pattern.
"""

import os
import re
from itertools import islice
from math import prod
from pathlib import Path

from braceexpand import braceexpand

from wds_bone.errors import ConfigError

MAX_LOCATIONS = 1_000_000
_GROUP = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
_NUM_LETTERS = 26


def expand_braces(pattern: str, *, shown: str) -> list[str]:
    """Return the names that the braces in `pattern` mean.

    Raises:
        ConfigError: if a brace is not closed, or there are more than a million names; it names the pattern `shown`.
    """
    try:
        # braceexpand builds a whole range before its first name, so count before expanding.
        num_locations = prod(map(_num_choices, _GROUP.findall(pattern)))
        names = [] if num_locations > MAX_LOCATIONS else list(islice(braceexpand(pattern), MAX_LOCATIONS + 1))
    except ValueError as error:
        problem = f"{shown}: does not exist, and is not a pattern: {error}"
        raise ConfigError(problem, do="check the path, or close the brace") from error
    if not 0 < len(names) <= MAX_LOCATIONS:
        got = f"{max(num_locations, len(names)):,}"
        expected = f"at most {MAX_LOCATIONS:,}"
        raise ConfigError(f"{shown}: too many shards", expected=expected, got=got, do="check the range")
    return names


def _num_choices(group: str) -> int:
    """Return how many names the contents of a brace mean."""
    if numbers := _RANGE.fullmatch(group):
        start, stop, step = (int(number or 1) for number in numbers.groups())
        return abs(stop - start) // max(1, step) + 1
    return group.count(",") + 1 if "," in group else _NUM_LETTERS ** (".." in group)


def expand_path_pattern(path: Path, *, shown: str) -> list[Path]:
    """Return the paths that the braces and globs in a path mean; its part up to the last folder that exists is literal.

    Raises:
        ConfigError: as for `expand_braces`, or if a glob matches nothing.
    """
    folder, pattern = split_at_folder(path)
    return [path for expanded in expand_braces(pattern, shown=shown) for path in _glob(folder, expanded, shown)]


def split_at_folder(path: Path) -> tuple[Path, str]:
    """Return the last folder of a path that exists, and what follows it."""
    folder = next((parent for parent in path.parents if os.path.lexists(parent)), path.parent)
    return folder, str(path.relative_to(folder))


def no_match_error(pattern: str, *, folder: object, shown: str) -> ConfigError:
    """Return the error for a glob that matches nothing in a folder."""
    got = f"no file of this name; as a pattern, {pattern!r} matches nothing in {folder}"
    return ConfigError(f"no shards in {shown}", expected="at least one .tar", got=got, do="check the path")


def _glob(folder: Path, pattern: str, shown: str) -> list[Path]:
    path = folder / pattern
    if not set("*?[") & set(pattern) or os.path.lexists(path):
        return [path]
    try:
        found = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{shown}: does not exist, and is not a pattern: {error}", do="check the path") from error
    if not found:
        raise no_match_error(pattern, folder=folder, shown=shown)
    return found
