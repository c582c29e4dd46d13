"""Change which files are in a folder, or which objects are below a prefix in object storage.

In: locations.
Out: files that are moved or deleted, or an error about one of them.
Invariant: what a function has done survives a power failure after `sync_names`. Below a prefix, every change of an
object is durable and atomic by itself; one is moved by copying it within the store, so that at any time it is at least
at one of the two names.
"""

import os
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from wds_bone.errors import ConfigError
from wds_bone.objects.clients import client_of
from wds_bone.objects.url import Url
from wds_bone.storage.durable import storage_errors, sync_folder
from wds_bone.storage.location import Location, exists, for_each, is_folder

WRITABLE = ("s3", "gs", "az")


def refuse_unusable_prefix(prefix: Location, *, do: str) -> None:
    """Refuse a URL below which no set can be written; a path is not checked.

    Args:
        prefix: the URL or path.
        do: the remedy if its scheme is read-only.

    Raises:
        ConfigError: if its scheme is read-only, or it would be read as a shard or a manifest.
    """
    if not isinstance(prefix, Url):
        return
    if prefix.scheme not in WRITABLE:
        expected = f"a path, or a URL of one of {', '.join(WRITABLE)}"
        raise ConfigError(f"{prefix}: nothing can be written there", expected=expected, got=prefix.scheme, do=do)
    if not is_folder(prefix):
        do = f"use another name, such as {prefix.parent}"
        raise ConfigError(f"{prefix}: is not a prefix", expected="a prefix", got=f"the name {prefix.name}", do=do)


def create_folder(folder: Location) -> None:
    """Create a folder, unless it exists; a prefix exists when something is below it."""
    if isinstance(folder, Path):
        with storage_errors(folder):
            folder.mkdir(exist_ok=True)


def folder_exists(folder: Location) -> bool:
    """Return whether there is a folder, or a link of its name, or anything below a prefix."""
    if isinstance(folder, Path):
        return exists(folder)
    with storage_errors(folder):
        return bool(client_of(folder).sizes(folder))


def names_in(folder: Location) -> list[str]:
    """Return the names of everything in a folder, sorted, or of all objects directly below a prefix."""
    with storage_errors(folder):
        if isinstance(folder, Url):
            return [*client_of(folder).names(folder)]
        return sorted(path.name for path in folder.iterdir())


def file_sizes(folder: Location) -> dict[str, int]:
    """Return the sizes of the files in a folder, by name, or of all objects directly below a prefix, in one listing."""
    with storage_errors(folder):
        if isinstance(folder, Url):
            return {name: size for name, size in client_of(folder).sizes(folder).items() if "/" not in name}
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def folders_in(folder: Location) -> list[Location]:
    """Return the folders in a folder, or the prefixes of objects that are deeper below a prefix."""
    with storage_errors(folder):
        if isinstance(folder, Url):
            names = {name.partition("/")[0] for name in client_of(folder).sizes(folder) if "/" in name}
            return [folder / name for name in sorted(names)]
        return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]


def move_files(source: Location, target: Location, names: Collection[str]) -> None:
    """Move files of these names, as far as they are in `source`, to another folder; existing ones are replaced."""
    names = [name for name in names_in(source) if name in names]

    for_each(lambda path: _move(path, target / path.name), [source / name for name in names])


def _move(source: Location, target: Location) -> None:
    with storage_errors(target):
        if isinstance(source, Path):
            assert isinstance(target, Path)
            source.rename(target)
        else:
            assert isinstance(target, Url)
            client_of(source).copy(source, target)
            client_of(source).delete(source)


def delete_files(folder: Location, names: Collection[str]) -> None:
    """Delete files, those below a prefix many at once; those that are missing are no error."""
    for_each(_delete, [folder / name for name in names])


def _delete(path: Location) -> None:
    with storage_errors(path):
        if isinstance(path, Path):
            path.unlink(missing_ok=True)
        else:
            client_of(path).delete(path)


def delete_empty_folder(folder: Location) -> None:
    """Delete a folder in which nothing is; a prefix is gone with its last object."""
    if isinstance(folder, Path):
        with storage_errors(folder):
            folder.rmdir()


def delete_folder(folder: Location) -> None:
    """Delete a folder and all that is in it, also if other machines may still be writing to it.

    They find it no longer, because it gets another name first. What they write below a prefix stays there.
    """
    with storage_errors(folder):
        if isinstance(folder, Path):
            nameless = folder.with_name(secrets.token_hex(8))
            folder.rename(nameless)
            shutil.rmtree(nameless)
        else:
            for_each(_delete, [folder / name for name in client_of(folder).sizes(folder)])


def sync_names(folder: Location) -> None:
    """Make changes of the names in a folder survive a power failure."""
    if isinstance(folder, Path):
        with storage_errors(folder):
            sync_folder(folder)
