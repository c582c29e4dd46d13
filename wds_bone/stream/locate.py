"""Turn the names a user gives (paths, `file://` URLs, brace patterns, globs) into paths of shards."""

import re
from math import prod
from pathlib import Path

from braceexpand import braceexpand

from wds_bone.errors import ConfigError
from wds_bone.shards.foreign import split_name
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest

MAX_SHARDS = 1_000_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)")


def name_shards(name: str, split: str | None) -> list[Path]:
    """Return the paths of the shards that `name` means: a pattern, a tar, a folder or a manifest.

    Args:
        name: what the user gave.
        split: which split of a folder or manifest; None takes the only one.

    Raises:
        ConfigError: nothing is named, the split is not there, or it must be chosen.
        ShardError: a damaged manifest.
    """
    path = local_path(name)
    if path.name == MANIFEST_NAME or (path.is_dir() and (path / MANIFEST_NAME).exists()):
        paths = _paths_in_manifest(path if path.name == MANIFEST_NAME else path / MANIFEST_NAME, split)
    elif path.is_dir():
        paths = _paths_in_folder(path, split)
    else:
        _refuse_split(name, split)
        paths = expand(name)
    if not name or not paths:
        raise ConfigError(f"no shard in {name!r}", expected="at least one .tar", got="none", do="check the path")
    return paths


def _paths_in_manifest(manifest: Path, split: str | None) -> list[Path]:
    splits = read_manifest(manifest).splits
    chosen = _choose_split(
        {name: [shard.name for shard in entry.shards] for name, entry in splits.items()}, split, manifest
    )
    return [manifest.parent / name for name in chosen]


def _paths_in_folder(folder: Path, split: str | None) -> list[Path]:
    """Group the tars by the splits that their names say, as `python -m wds_bone.index` would."""
    splits: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.tar")):
        splits.setdefault(split_name(path.name), []).append(path.name)
    return [folder / name for name in _choose_split(splits, split, folder)] if splits else []


def _choose_split(splits: dict[str, list[str]], split: str | None, where: Path) -> list[str]:
    if split is None and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        raise ConfigError(
            f"{where}: which split?", expected=f"one of {', '.join(splits)}", got=split, do="name a split"
        )
    return splits[split]


def _refuse_split(name: str, split: str | None) -> None:
    if split is not None:
        raise ConfigError(
            f"{name}: a split can be chosen from a folder or a manifest only",
            got=f"split {split!r}",
            do="name one of these",
        )


def local_path(name: str) -> Path:
    """Return the path that `name`, a path or a `file://` URL, means.

    Raises:
        ConfigError: any other scheme. Schemes are an allow-list, so that nothing in a URL can run a program.
    """
    scheme, separator, rest = name.partition("://")
    if separator and scheme == "file":
        return Path(rest)
    if separator or name.startswith("pipe:") or "::" in name:
        # Only the scheme is shown: the rest may hold a password or a signature.
        shown = f"{scheme}://" if separator else scheme.partition(":")[0] + ":"
        raise ConfigError(
            "not a local path", expected="a path, or file://", got=f"{shown}...", do="copy the shards here"
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
