"""Read files of repositories on the Hugging Face Hub.

In: URLs such as `hf://datasets/OWNER/NAME@REVISION/path`; `hf://OWNER/NAME/path` is a repository of models.
Out: bytes, sizes, versions, names.
Invariant: the token goes to the Hub only, not to the hosts that it redirects to.
"""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in `__all__`

from wds_bone.objects.http_objects import HttpObjects
from wds_bone.objects.protocol import RemoteError, Version
from wds_bone.objects.url import Url, parse_url

_KINDS = {"datasets": "dataset", "spaces": "space"}
_REPOSITORY = re.compile(r"([^/@]+/[^/@]+)(?:@(refs/convert/\w+|refs/pr/\d+|[^/]+))?(?:/(.*))?")
_NOT_WRITTEN = "files on the Hub are not changed; upload them with `hf upload`"


class _Place(NamedTuple):
    """Where a file is on the Hub; what `HfApi` and `hf_hub_url` call the parts."""

    repo_type: str
    repo_id: str
    revision: str | None
    path: str


class HubObjects:
    """The files of all repositories on the Hub."""

    def __init__(self) -> None:
        self._http = HttpObjects(any_host=True, headers=self._authorization)
        self.traffic = self._http.traffic

    def version(self, url: Url) -> Version:
        """Return the size and version of a file."""
        return self._http.version(_address(url))

    def read(self, url: Url, offset: int, size: int, *, version: Version | None = None) -> bytes:
        """Return exactly `size` bytes of a file."""
        return self._http.read(_address(url), offset, size, version=version)

    def read_all(self, url: Url, *, max_bytes: int) -> bytes:
        """Return a whole file, of at most `max_bytes`."""
        return self._http.read_all(_address(url), max_bytes=max_bytes)

    def open(self, url: Url) -> BinaryIO:
        """Return a file that reads a file of the Hub from its start."""
        return self._http.open(_address(url))

    def names(self, prefix: Url) -> Sequence[str]:
        """Return the names of the files directly in a folder, sorted."""
        return [*self.sizes(prefix, recursive=False)]

    def sizes(self, prefix: Url, *, recursive: bool = True) -> Mapping[str, int]:
        """Return the sizes of all files below a folder, or directly in it, by the rest of their paths, sorted."""
        start = f"{_place(prefix).path}/".lstrip("/")
        found = self._tree(prefix, recursive=recursive)
        return {path.removeprefix(start): size for path, size in sorted(found.items())}

    def _tree(self, prefix: Url, *, recursive: bool) -> dict[str, int]:
        """Return the sizes of the files in a folder, by their paths in the repository."""
        place = _place(prefix)
        options: dict[str, Any] = {"repo_type": place.repo_type, "revision": place.revision, "recursive": recursive}
        try:
            entries = HfApi(_endpoint(), token=self._token).list_repo_tree(place.repo_id, place.path or None, **options)
            return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
        except EntryNotFoundError:
            return {}
        except Exception as error:  # the errors of the library's HTTP client are no OSErrors
            status = getattr(getattr(error, "response", None), "status_code", None)
            raise RemoteError(f"the Hub answers HTTP {status}" if status else "the Hub cannot be reached") from None

    def write(self, url: Url, contents: bytes | BinaryIO, *, only_if_absent: bool = False) -> None:  # noqa: ARG002
        """Raise an error, because files on the Hub are not changed."""
        raise RemoteError(_NOT_WRITTEN)

    def copy(self, source: Url, target: Url) -> None:  # noqa: ARG002
        """Raise an error, because files on the Hub are not changed."""
        raise RemoteError(_NOT_WRITTEN)

    def delete(self, url: Url) -> None:  # noqa: ARG002
        """Raise an error, because files on the Hub are not changed."""
        raise RemoteError(_NOT_WRITTEN)

    def close(self) -> None:
        """Give up all connections."""
        self._http.close()

    @cached_property
    def _token(self) -> str | None:
        return get_token()

    def _authorization(self, url: Url) -> Mapping[str, str]:  # noqa: ARG002
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


def _address(url: Url) -> Url:
    """Return the HTTP address of a file on the Hub."""
    place = _place(url)
    kind, revision = place.repo_type, place.revision
    return parse_url(hf_hub_url(place.repo_id, place.path, repo_type=kind, revision=revision, endpoint=_endpoint()))


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")  # the library reads it only when it is imported


def _place(url: Url) -> _Place:
    kind = _KINDS.get(url.host, "model")
    found = _REPOSITORY.fullmatch(url.path if url.host in _KINDS else f"{url.host}/{url.path}")
    if found is None or not _is_repository(found[1]):
        raise RemoteError("it does not name a repository, as in hf://datasets/OWNER/NAME/path")
    return _Place(kind, found[1], found[2], found[3] or "")


def _is_repository(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
