"""Turn what a user types (a path, a `file://` URL, a brace pattern, a glob) into paths.

In: one name.
Out: the paths that it means, whether they exist or not.
Invariant: the schemes are an allow-list, so that nothing in a name can run a program.
"""

import re
from math import prod
from pathlib import Path

from braceexpand import braceexpand

from wds_bone.errors import ConfigError

MAX_PATHS = 1_000_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)")


def local_path(name: str) -> Path:
    """Return the path that `name`, a path or a `file://` URL, means; `~` is the home folder.

    Raises:
        ConfigError: if it is a URL of any other scheme.
    """
    scheme, separator, rest = name.partition("://")
    if separator and scheme == "file":
        return Path(rest)
    if separator or name.startswith("pipe:") or "::" in name:
        # Only the scheme is shown: the rest may contain a password or a signature.
        shown = f"{scheme}://" if separator else scheme.partition(":")[0] + ":"
        raise ConfigError(
            "not a local path", expected="a path, or file://", got=f"{shown}...", do="copy the shards to a local disk"
        )
    return Path(name).expanduser()


def expand(name: str) -> list[Path]:
    """Return the paths that a brace pattern or a glob means, in its order.

    Raises:
        ConfigError: if a brace is not closed, or the pattern means more than a million paths.
    """
    # braceexpand builds a whole range before its first name, so count before expanding.
    num_paths = prod(abs(int(stop) - int(start)) + 1 for start, stop in _RANGE.findall(name))
    if num_paths > MAX_PATHS:
        raise ConfigError(
            f"{name!r}: too many shards", expected=f"at most {MAX_PATHS:,}", got=f"{num_paths:,}", do="check the range"
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
