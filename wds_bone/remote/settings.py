"""The settings that all commands have in common that read shards in object storage.

In: what was typed.
Out: the arguments of a stream, or an error.
Invariant: a command declares such a setting as `option_of(RemoteOptions, name)`, so that it means the same everywhere.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from wds_bone.config import option
from wds_bone.errors import ConfigError
from wds_bone.paths import PathText
from wds_bone.remote.opening import NO_CACHE

DEFAULT_CACHE = "auto"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?")


@dataclass(frozen=True)
class RemoteOptions:
    """The settings; commands take them over one by one."""

    cache: PathText = option(
        "folder that keeps shards in object storage, for all processes of this machine; auto: wds_bone in your folder "
        "for caches; none: fetch the images each time that they are read",
        default=DEFAULT_CACHE,
        metavar="auto|none|DIR",
        is_output=True,
        may_differ=True,
    )
    cache_bytes: int | None = option(
        "maximum size of the shards in --cache, in bytes; none: half of the free space",
        default=None,
        min=1,
        flag=False,
        may_differ=True,
    )
    allow_host: tuple[str, ...] | None = option(
        "other hosts to which the server of the shards may redirect, such as cdn.example.org",
        default=None,
        metavar="HOST",
        may_differ=True,
    )


def cache_folder(cache: str) -> str | None:
    """Return the argument `cache` of a stream for this setting."""
    return None if cache == DEFAULT_CACHE else cache


def check_cache(cache: str, cache_bytes: int | None) -> None:
    """Check that the size of the cache belongs to a cache.

    Raises:
        ConfigError: if there is none.
    """
    if cache == NO_CACHE and cache_bytes is not None:
        raise ConfigError("--set cache_bytes has no effect with --cache none", do="leave one of them out")


def check_hosts(hosts: Iterable[str] | None) -> None:
    """Check that what `--allow-host` names are hosts.

    Raises:
        ConfigError: if one is not.
    """
    for host in hosts or ():
        if not _HOST.fullmatch(host):
            expected, do = "a host, such as cdn.example.org or localhost:8080", "leave out the scheme and the path"
            raise ConfigError(f"--allow-host {host}: is not a host", expected=expected, got=host, do=do)
