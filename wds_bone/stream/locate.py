"""Find the shards of a split.

In: what the user names: a manifest, a folder, a tar, a brace pattern or a glob.
Out: the paths of shards, in order.
Invariant: `find_splits` and `find_shards` agree on which splits exist; every command finds the tars of a folder with
`tars_in`.
"""

from collections import Counter
from pathlib import Path

from wds_bone.errors import ConfigError, ShardError
from wds_bone.shards.foreign import split_name
from wds_bone.shards.manifest import LOCK_NAME, MANIFEST_NAME, is_unfinished, read_manifest, unfinished_error
from wds_bone.storage.location import (
    Location,
    exists,
    expand,
    is_folder,
    list_files,
    list_tars,
    parse_location,
)

Splits = dict[str, list[Location]]
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def find_shards(name: str | Path, split: str | None) -> list[Location]:
    """Return the paths of the shards that `name` refers to.

    Args:
        name: a manifest, a folder, a tar, a brace pattern or a glob; a path that exists means itself.
        split: the split of a manifest or folder; None takes the only one.

    Raises:
        ConfigError: if there are no shards, the split does not exist, or one must be chosen.
        ShardError: if the manifest is damaged, or the set is unfinished.
    """
    splits = find_splits(name)
    if splits is not None:
        return _choose_split(splits, split, str(name))
    _refuse_split(str(name), split)
    return expand_shards(name)


def find_splits(name: str | Path) -> Splits | None:
    """Return the shards of a manifest or folder by split; None for anything else, which has no splits.

    A folder without a manifest is divided by the names of its tars, as `wds-bone index` would divide it.

    Raises:
        ConfigError: if there are no shards.
        ShardError: if the manifest is damaged, or the set is unfinished.
    """
    if not str(name):
        raise ConfigError("no shards in ''", expected="at least one .tar", got="none", do="check the path")
    path = parse_location(name)
    if path.name == MANIFEST_NAME or (is_folder(path) and exists(path / MANIFEST_NAME)):
        return _splits_of_manifest(path if path.name == MANIFEST_NAME else path / MANIFEST_NAME)
    return _splits_of_folder(path) if is_folder(path) else None


def expand_shards(name: str | Path) -> list[Location]:
    """Return the locations that `name` means, like `expand`.

    Raises:
        ConfigError: if it is a pattern that matches nothing.
        ShardError: if it does not exist because its folder is an unfinished set.
    """
    path = parse_location(name)
    # Of URLs, each question would take a round trip; whoever reads the set asks once.
    if isinstance(path, Path) and not exists(path) and is_unfinished(path.parent):
        raise unfinished_error(path.parent)
    return expand(name)


def tars_in(folder: Location) -> list[Location]:
    """Return the tars of a folder that has no manifest, sorted by name.

    Raises:
        ConfigError: if there are none; the error counts what is there.
        ShardError: if the folder is an unfinished set, cannot be read, or has a compressed shard of one of the splits.
    """
    if is_unfinished(folder):
        raise unfinished_error(folder)
    tars = list_tars(folder)
    if not tars and exists(folder / LOCK_NAME):
        raise unfinished_error(folder)
    if not tars:
        raise _no_tars_error(folder)
    _refuse_compressed(folder, tars)
    return tars


def _refuse_compressed(folder: Location, tars: list[Location]) -> None:
    """Refuse a folder in which a compressed tar belongs to the split of other tars, and would be left out."""
    splits = {split_name(tar.name) for tar in tars}
    for path in list_files(folder):
        suffix = _compression(path.name)
        plain = path.name.removesuffix(suffix) + ".tar"
        if suffix and split_name(plain) in splits and not exists(folder / plain):
            got = f"{path.name} of the split {split_name(plain)!r}"
            do = "decompress it, or move it elsewhere"
            raise ShardError(f"{folder}: a compressed shard would be left out", expected="tars", got=got, do=do)


def _no_tars_error(folder: Location) -> ConfigError:
    names = [path.name for path in list_files(folder)]
    found = Counter(_compression(name) or Path(name).suffix or "without suffix" for name in names)
    shown = ", ".join(f"{count:,} {suffix}" for suffix, count in found.most_common(5))
    compressed = sorted(found.keys() & set(_COMPRESSED))
    do = f"decompress the {compressed[0]} files" if compressed else "check the path"
    return ConfigError(f"no shards in {str(folder)!r}", expected="at least one .tar", got=shown or "none", do=do)


def _compression(name: str) -> str:
    """Return the suffix of a compressed tar, or an empty string."""
    return next((suffix for suffix in _COMPRESSED if name.endswith(suffix)), "")


def _splits_of_manifest(manifest: Location) -> Splits:
    splits = read_manifest(manifest).splits
    return {name: [manifest.parent / shard.name for shard in entry.shards] for name, entry in splits.items()}


def _splits_of_folder(folder: Location) -> Splits:
    splits: Splits = {}
    for path in tars_in(folder):
        splits.setdefault(split_name(path.name), []).append(path)
    return splits


def _choose_split(splits: Splits, split: str | None, name: str) -> list[Location]:
    if split is None and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        problem = f"{name}: has several splits" if split is None else f"{name}: has no split {split!r}"
        expected = f"one of {', '.join(splits)}" if len(splits) > 1 else next(iter(splits))
        do = "choose a split of this set, or name the shards themselves"
        raise ConfigError(problem, expected=expected, got=split, do=do)
    return splits[split]


def _refuse_split(name: str, split: str | None) -> None:
    if split is not None:
        raise ConfigError(
            f"{name}: only a folder or a manifest has splits to choose from",
            got=f"split {split!r}",
            do="leave the split out, or name the folder or its manifest",
        )
