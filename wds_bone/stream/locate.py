"""Turn the names a user gives (paths, `file://` URLs, brace patterns, globs) into paths of shards."""

import re
from math import prod
from pathlib import Path

from braceexpand import braceexpand

from wds_bone.errors import ConfigError

MAX_SHARDS = 1_000_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)")


def local_path(name: str) -> Path:
    """Return the path that `name`, a path or a `file://` URL, means.

    Raises:
        ConfigError: any other scheme. Schemes are an allow-list, so that nothing in a URL can run a program.
    """
    scheme, separator, rest = name.partition("://")
    if separator and scheme == "file":
        return Path(rest)
    if separator or name.startswith("pipe:") or "::" in name:
        raise ConfigError(
            f"{name.split('?')[0]!r}: not a local path",
            expected="a path, or file://",
            got=scheme,
            do="copy the shards here",
        )
    return Path(name).expanduser()


def expand(name: str) -> list[Path]:
    """Return the files that a brace pattern or glob names, in its order.

    Raises:
        ConfigError: an unbalanced brace, or more than a million names.
    """
    # braceexpand builds a whole range before its first name: count before expanding.
    num_names = prod(abs(int(stop) - int(start)) + 1 for start, stop in _RANGE.findall(name))
    if num_names > MAX_SHARDS:
        raise ConfigError(
            f"{name!r}: too many shards", expected=f"at most {MAX_SHARDS:,}", got=f"{num_names:,}", do="check the range"
        )
    try:
        names = list(braceexpand(str(local_path(name))))
    except ValueError as error:
        raise ConfigError(f"{name!r}: {error}", do="close the brace") from error
    return [path for expanded in names for path in _glob(Path(expanded))]


def _glob(path: Path) -> list[Path]:
    if not set("*?[") & set(path.name):
        return [path]
    return sorted(path.parent.glob(path.name))
